"""Section ``scaling``: the cost against the number of steps and of sequences, and how straight the line is."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarking import pictures
from benchmarking.cases import Case, Size, case
from benchmarking.section import Plan, Row, Section
from benchmarking.stacks import torch_call
from benchmarking.timing import interleave

SIZE: Size = (64, 2, 100, 32)
FACTORS = (0.25, 0.5, 1, 2, 4, 8)  # of the size's own steps or sequences


def measure(plan: Plan) -> Iterator[Row]:
    """One row a cell and axis; all points of a row take turns."""
    for size in plan.sizes or (SIZE,):
        for cell in plan.cells:
            for axis, place in (("T", 2), ("B", 3)):
                amounts = sorted({max(round(factor * size[place]), 1) for factor in FACTORS})
                calls = {str(amount): torch_call(along(cell, size, place, amount), "auto") for amount in amounts}
                times = interleave(calls, plan.seconds)
                line = fit([(amount, times[str(amount)].median) for amount in amounts])
                yield {"cell": cell, "axis": axis, "size": case(cell, size, "").shape} | line


def along(cell: str, size: Size, place: int, amount: int) -> Case:
    """The size with another number of steps (place 2) or sequences (place 3)."""
    changed = list(size)
    changed[place] = amount
    hidden, layers, time, batch = changed
    return case(cell, (hidden, layers, time, batch), "forward+backward")


def fit(points: list[tuple[int, float]]) -> Row:
    """The least-squares line through (amount, milliseconds), and how far the points are from it.

    ``exponent`` is the slope of the line through the logarithms of the larger half of the points: 1 is linear, below 1
    is a fixed cost that still shows.
    """
    x, y = np.array(points, dtype=float).T
    slope, start = np.polyfit(x, y, 1)
    rest = y - (slope * x + start)
    half = len(x) // 2
    exponent = np.polyfit(np.log(x[half:]), np.log(y[half:]), 1)[0] if len(x) - half > 1 else float("nan")
    return {
        "points": [[int(value), milliseconds] for value, milliseconds in points],
        "slope": float(slope),
        "start": float(start),
        "r_squared": float(1 - (rest**2).sum() / max(((y - y.mean()) ** 2).sum(), 1e-30)),
        "exponent": float(exponent),
    }


def header(rows: list[Row]) -> list[str]:
    """What is told of each line."""
    return ["cell", "H x L x T x B", "varied", "exponent (1: linear)", "R²", "points: amount, ms"]


def line(one: Row, head: list[str]) -> list[str]:
    """One row of the table."""
    points = ", ".join(f"{value}: {milliseconds:.3g}" for value, milliseconds in one["points"])
    return [one["cell"], one["size"], one["axis"], f"{one['exponent']:.2f}", f"{one['r_squared']:.4f}", points]


def draw(rows: list[Row], path: Path) -> None:
    """A panel an axis, the measured points and their line."""
    panels = []
    for axis, label in (("T", "steps"), ("B", "sequences")):
        series = {one["cell"]: [tuple(point) for point in one["points"]] for one in rows if one["axis"] == axis}
        panels.append((f"forward+backward against {label}", label, series))
    pictures.lines(panels, path)


SECTION = Section("Cost against steps and sequences, forward+backward of `auto`", measure, header, line, draw)
