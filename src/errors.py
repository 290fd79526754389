"""The two ways in which a run can end badly, and the words for it."""

from collections.abc import Iterable


class RequestError(Exception):
    """A wrong request: one line that says what is wrong, what was expected, and the nearest right thing.

    The doors print it and exit with code 2.
    """


class RunError(Exception):
    """A run that started well and failed (a loss that is not finite, a full disk); the doors exit with code 1."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean X?)"`` for the nearest of ``known``, else ``"; known: A, B, …"``."""
    from src.models.naming import did_you_mean as suggest  # late: the library brings torch, --help needs none

    return suggest(name, known)
