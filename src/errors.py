"""The two ways in which a run can end badly, and the words for it."""

import errno
from collections.abc import Iterable, Iterator


class RequestError(Exception):
    """A wrong request: one line that says what is wrong, what was expected, and the nearest right thing.

    The doors print it and exit with code 2.
    """


class RunError(Exception):
    """A run that started well and failed (a loss that is not finite, a full disk); the doors exit with code 1."""


class NotFiniteError(RunError):
    """A loss, a gradient or a loss scale that is not finite."""


class FolderGoneError(RunError):
    """The run folder was deleted or replaced while the run was writing to it."""


class InUseError(RequestError):
    """Another process is writing to the run."""


def printable(line: str) -> str:
    """A message as one line of visible letters: what was typed, and comes back in it, may hold any others."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it came from, what that came from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory")


def reason_of(error: BaseException) -> str:
    """Say in a few words why a run failed, so that a table can name it: out of memory, not finite, disk full, …"""
    for link in chain(error):
        if isinstance(link, NotFiniteError):
            return "not finite"
        text = str(link).lower()
        if isinstance(link, MemoryError) or (isinstance(link, RuntimeError) and any(t in text for t in _NO_MEMORY)):
            return "out of memory"  # torch.OutOfMemoryError is a RuntimeError; the CPU's allocator raises a bare one
        if isinstance(link, OSError) and link.errno in _NO_ROOM:
            return "disk full"
    kind = "wrong request" if isinstance(error, RequestError) else type(error).__name__
    message = " ".join(str(error).split())
    return message if isinstance(error, RunError) else f"{kind}: {message}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean X?)"`` for the nearest of ``known``, else ``"; known: A, B, …"``."""
    from deep_rnn.naming import did_you_mean as suggest  # late: the library brings torch, --help needs none

    return suggest(name, known)
