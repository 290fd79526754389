"""The folder that a run owns: what marks it, who may write to it, and how it ends."""

import fcntl
import os
import traceback
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from src.errors import RequestError, RunError
from src.files import remove_leftovers, write_atomic

MARKS = ("config.yaml", "metrics.jsonl", "last.ckpt", "best.ckpt", "summary.json", "DONE", "FAILED")
"""A folder with one of these holds a run."""


class RunFolder:
    """Opens a folder for one run, and closes it with a marker that says how the run ended.

    A clean end writes ``DONE``, an error ``FAILED`` with its traceback; a run that a signal ended has neither and can
    be resumed; one that could not be resumed is left as it was. While it is open no other process can open it.

    Args:
        path: made if missing; a new run is refused where another one lies.
        config: the run's whole configuration as a plain container, written to ``config.yaml``.
        resume: take up the run that lies there.

    Raises:
        RequestError: the folder holds a run (or, to resume, holds none), is in use, or cannot be written.
    """

    def __init__(self, path: str | Path, config: dict[str, Any], *, resume: bool = False) -> None:
        self.path = Path(path)
        self.config, self.resume = config, resume
        self._lock: int | None = None
        self._before: dict[str, bytes] = {}  # what a refused resume puts back

    def __enter__(self) -> Self:
        self._check()  # before anything is touched
        self._take()
        self._check()  # another process may have been quicker
        remove_leftovers(self.path)
        kept = (self.path / name for name in ("config.yaml", "DONE", "FAILED"))
        self._before = {file.name: file.read_bytes() for file in kept if file.exists()}
        for marker in ("DONE", "FAILED"):
            (self.path / marker).unlink(missing_ok=True)
        write_atomic(self.path / "config.yaml", yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            write_atomic(self.path / "DONE", "")
        elif self.resume and isinstance(error, RequestError):
            for name, content in self._before.items():  # nothing was trained: the run is what it was
                write_atomic(self.path / name, content)
        elif isinstance(error, Exception) and not hasattr(error, "signum"):
            with suppress(OSError, RunError):  # the error itself matters more than the note of it
                write_atomic(self.path / "FAILED", "".join(traceback.format_exception(error)))
        self._release()

    def _check(self) -> None:
        found = [name for name in MARKS if (self.path / name).exists()]
        if self.resume and "config.yaml" not in found:
            raise RequestError(f"{self.path}: holds no run to resume (no config.yaml in it)")
        if self.resume and "last.ckpt" not in found and {"best.ckpt", "summary.json"} & set(found):
            raise RequestError(
                f"{self.path}: last.ckpt is missing, so there is nothing to go on from; start anew with another"
                " hydra.run.dir"
            )
        if found and not self.resume:
            raise RequestError(
                f"{self.path}: already holds a run ({found[0]}); resume={self.path} goes on with it,"
                " another hydra.run.dir starts a new one"
            )

    def _take(self) -> None:
        """Make and lock the folder; the system gives the lock back however this process ends."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._release()
            raise RequestError(f"{self.path}: another process is writing to this run") from None
        except OSError as error:
            if self._lock is None:
                raise RequestError(f"{self.path}: cannot be made or opened ({error.strerror})") from error
            # a network file system that knows no locks: go on without

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
