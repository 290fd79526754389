"""Names of classes, as a person reads them."""

from collections.abc import Sequence

SHOWN = 10
"""Names that a line lists at most."""


def some_of(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f", … and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
