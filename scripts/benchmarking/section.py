"""What a section of the benchmark is, and what all of them are asked."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from benchmarking.cases import Size

Row = dict[str, Any]


class Plan(NamedTuple):
    """How much to measure."""

    extent: str  # quick, usual or full
    seconds: float  # for each contestant of each row
    cells: tuple[str, ...]
    sizes: tuple[Size, ...]  # in place of the section's own; empty: those

    @property
    def quick(self) -> bool:
        """Whether this is to end in about a minute."""
        return self.extent == "quick"


class Section(NamedTuple):
    """One question to the machine: rows, a table of them, and a picture."""

    title: str
    measure: Callable[[Plan], Iterator[Row]]
    header: Callable[[list[Row]], list[str]]
    line: Callable[[Row, list[str]], list[str]]
    draw: Callable[[list[Row], Path], None]
    why_not: Callable[[], str | None] = lambda: None

    def table(self, rows: list[Row]) -> str:
        """The rows in Markdown."""
        header = self.header(rows)
        lines = [header, ["---"] * len(header), *(self.line(row, header) for row in rows)]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
