"""The folder that a run owns: what marks it, who may write to it, and how it ends."""

import fcntl
import json
import os
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from src.errors import FolderGoneError, InUseError, RequestError, RunError, reason_of
from src.files import remove_leftovers, write_atomic

ENDS = ("DONE", "FAILED", "PRUNED")
"""How a run may have ended; one that a signal or a crash cut off has none of these."""
MARKS = ("config.yaml", "metrics.jsonl", "last.ckpt", "best.ckpt", "summary.json", *ENDS)
"""A folder with one of these holds a run."""
PATIENCE = 0.5
"""Seconds to wait for a lock, which a reader may hold for a moment to learn whether the run is going on."""


def end_of(folder: Path) -> str | None:
    """How the run in a folder ended; none for one that is going on or was cut off, and where there is none."""
    return next((end for end in ENDS if (folder / end).exists()), None)


def holds_run(folder: Path) -> bool:
    """Whether a run was begun in a folder."""
    return (folder / "config.yaml").exists()


def note_failure(folder: Path, error: BaseException) -> None:
    """Write ``FAILED``: the traceback, and on its last line the reason in a few words."""
    text = "".join(traceback.format_exception(error)).rstrip()
    with suppress(OSError, RunError):  # the error itself matters more than the note of it
        write_atomic(folder / "FAILED", f"{text}\n\nreason: {reason_of(error)}\n")


def noted(folder: Path, end: str = "FAILED", longest: int = 160) -> str:
    """Why a run ended, as the last line of its marker has it; nothing where there is none, or it cannot be read."""
    try:
        lines = (folder / end).read_text(encoding="utf-8", errors="replace").split("\n")
    except OSError:
        return ""
    words = next((line.strip() for line in reversed(lines) if line.strip()), "").removeprefix("reason: ")
    return words if len(words) <= longest else f"{words[:longest]}…"


_claimed: set[str] = set()  # folders that this process keeps for the run it is about to make


@contextmanager
def claim(path: Path) -> Iterator[None]:
    """Lock a folder for the `RunFolder` that this process will open in it (see `lock_folder`)."""
    name = os.path.realpath(path)
    with lock_folder(path):
        _claimed.add(name)
        try:
            yield
        finally:
            _claimed.discard(name)


@contextmanager
def lock_folder(path: Path) -> Iterator[None]:
    """Make a folder and keep other processes out of it.

    The system gives the lock back however this process ends. On a file system that knows no locks it goes on without.

    Raises:
        InUseError: another process has it.
        RequestError: it cannot be made or opened.
    """
    while True:
        try:
            path.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDONLY)
        except OSError as error:
            raise RequestError(f"{path}: cannot be made or opened ({error.strerror})") from error
        try:
            if not _locked(descriptor):
                raise InUseError(f"{path}: another process is writing to this run")
            if _names(path, descriptor):  # else its last owner removed it as empty: nobody looks for a lock on that
                yield
                return
        finally:
            os.close(descriptor)


def _names(path: Path, descriptor: int) -> bool:
    """Whether what was opened still lies under its name."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except OSError:
        return False


def _locked(descriptor: int) -> bool:
    until = time.monotonic() + PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.02)
        except OSError:  # a network file system without locks
            return True


def is_held(path: Path) -> bool:
    """Whether a process is writing to a run (see `lock_folder`); no, where the file system knows no locks."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two may ask at once
        return False
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _contents(files: list[Path]) -> dict[str, bytes]:
    """The bytes of those that exist, by name.

    Raises:
        RequestError: one cannot be read.
    """
    try:
        return {file.name: file.read_bytes() for file in files if file.exists()}
    except OSError as error:
        raise RequestError(f"{error.filename}: cannot be read ({error.strerror})") from error


class RunFolder:
    """Opens a folder for one run, and closes it with a marker that says how the run ended.

    A clean end writes ``DONE``, or ``PRUNED`` where summary.json says so, an error ``FAILED`` with its traceback; a run
    that a signal ended has none and can be resumed; one that could not be resumed is left as it was. While it is open
    no other process can open it.

    Args:
        path: made if missing; a new run is refused where another one lies.
        config: the run's whole configuration as a plain container, written to ``config.yaml``.
        resume: take up the run that lies there.

    Raises:
        RequestError: the folder holds a run (or, to resume, holds none), is in use, or cannot be written.
        FolderGoneError: somebody deleted the folder in the meantime.
    """

    def __init__(self, path: str | Path, config: dict[str, Any], *, resume: bool = False) -> None:
        self.path = Path(path)
        self.config, self.resume = config, resume
        self._open = ExitStack()
        self._inode = 0
        self._before: dict[str, bytes] = {}  # what a refused resume puts back

    def __enter__(self) -> Self:
        self._check()  # before anything is touched
        with ExitStack() as stack:
            if os.path.realpath(self.path) not in _claimed:
                stack.enter_context(lock_folder(self.path))
            self._check()  # another process may have been quicker
            self._inode = self.path.stat().st_ino
            remove_leftovers(self.path)
            self._before = _contents([self.path / name for name in ("config.yaml", *ENDS)])
            write_atomic(self.path / "config.yaml", yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True))
            for marker in ENDS:
                (self.path / marker).unlink(missing_ok=True)
            self._open = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._open:
            if self._gone():  # nothing is written to what may be another run's by now
                raise FolderGoneError(f"{self.path}: the folder was deleted while the run was writing to it") from error
            if error is None:
                self._end_well()
            elif self.resume and isinstance(error, RequestError):
                for name, content in self._before.items():  # nothing was trained: the run is what it was
                    write_atomic(self.path / name, content)
            elif isinstance(error, Exception) and not hasattr(error, "signum"):
                note_failure(self.path, error)

    def _gone(self) -> bool:
        try:
            return self.path.stat().st_ino != self._inode  # the lock keeps the old number from being used again
        except OSError:
            return True

    def _end_well(self) -> None:
        with suppress(OSError, ValueError):
            if pruned := json.loads((self.path / "summary.json").read_text(encoding="utf-8")).get("pruned"):
                write_atomic(self.path / "PRUNED", f"{pruned}\n")
                return
        write_atomic(self.path / "DONE", "")

    def _check(self) -> None:
        found = [name for name in MARKS if (self.path / name).exists()]
        if self.resume and "config.yaml" not in found:
            raise RequestError(f"{self.path}: holds no run to resume (no config.yaml in it)")
        if self.resume and "last.ckpt" not in found and {"summary.json", "DONE", "PRUNED"} & set(found):
            raise RequestError(
                f"{self.path}: last.ckpt is missing, so there is nothing to go on from; start anew with another"
                " hydra.run.dir"
            )
        if found and not self.resume:
            raise RequestError(
                f"{self.path}: already holds a run ({found[0]}); resume={self.path} goes on with it,"
                " another hydra.run.dir starts a new one"
            )
