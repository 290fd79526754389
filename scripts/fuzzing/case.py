"""One request that is tried: a door, what is typed, what lies there, and what it may change."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

Prepare = Callable[[Path, Path], None]
"""Lays out a case's own files: given its folder, and that of the templates."""


class Case(NamedTuple):
    """One request. Paths in it are seen from the folder that it is made in."""

    kind: str
    """``command-lines``, ``files`` or ``run-folders``."""
    number: int
    what: str
    """What is odd about it, in a few words."""
    door: str
    """``train``, ``evaluate``, ``predict``, ``generate`` or ``sweeps``."""
    arguments: list[str]
    stdin: bytes = b""
    prepare: Prepare = lambda folder, templates: None
    own: tuple[str, ...] = ()
    """Folders of runs that it may change, as a run that it goes on with."""

    @property
    def name(self) -> str:
        """By which it is asked for again."""
        return f"{self.kind}:{self.number}"


class Outcome(NamedTuple):
    """What came of a case."""

    code: int | None
    """The exit code, negative for a signal; None: it was ended at the time limit."""
    out: str
    err: str
    seconds: float
