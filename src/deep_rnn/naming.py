"""Error messages for names that do not exist: what was asked, what was expected, and the nearest right one."""

from collections.abc import Iterable
from difflib import get_close_matches

SHOWN = 12
"""Names that a message lists at most."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" (did you mean X?)"`` for the nearest of ``known``, else ``"; known: A, B, …"``."""
    choices = sorted(known)
    close = get_close_matches(str(name).lower(), choices, n=1, cutoff=0.6)
    if close:
        return f" (did you mean {close[0]}?)"
    more = f", … and {len(choices) - SHOWN} more" if len(choices) > SHOWN else ""
    return f"; known: {', '.join(choices[:SHOWN])}{more}"


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for an unknown ``name`` of some ``kind`` ("cell", "link", "merge", …)."""
    return ValueError(f"unknown {kind} {name!r}{did_you_mean(name, known)}")


def check_name(kind: str, name: str, known: Iterable[str]) -> None:
    """Raise the error for an unknown name unless ``name`` is one of ``known``."""
    if name not in known:
        raise unknown(kind, name, known)
