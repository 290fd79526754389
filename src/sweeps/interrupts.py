"""Ctrl-C while a launcher has the word."""

import signal
import threading
from contextlib import AbstractContextManager
from types import FrameType, TracebackType


class Interrupts(AbstractContextManager["Interrupts"]):
    """Lets no SIGINT get lost while the block runs: whatever the block made of it, it ends in `KeyboardInterrupt`.

    Python raises that wherever the main thread happens to be, also in a callback of the garbage collector, which drops
    it; and a launcher that is ending its processes, which have all heard the signal too, may raise something else.
    """

    def __init__(self) -> None:
        self.heard = False

    def __enter__(self) -> "Interrupts":
        self.main = threading.current_thread() is threading.main_thread()  # only there can it be caught
        if self.main:
            self.before = signal.signal(signal.SIGINT, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.main:
            signal.signal(signal.SIGINT, self.before)
        if self.heard and not isinstance(error, KeyboardInterrupt | SystemExit):
            raise KeyboardInterrupt from error

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        self.heard = True
        signal.default_int_handler(signum, frame)
