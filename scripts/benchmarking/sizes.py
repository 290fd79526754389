"""Section ``sizes``: every contestant at every size, beside the machine's own limit."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarking import counting, pictures
from benchmarking.cases import PASSES, TABLE, USUAL, WHOLE, Case, case, seed_deep, variable_lengths
from benchmarking.contestants import call_of, check_agreement, names_of
from benchmarking.machine import LIMITS, limit_calls, limits_from
from benchmarking.memory import peak_mebibytes
from benchmarking.section import Plan, Row, Section
from benchmarking.stacks import TORCH, picked
from benchmarking.timing import Times, interleave

FIRST = ("auto", "fused", "eager", "native", "loop", "torch.compile", "Keras", "Flax")  # order of the columns


def cases(plan: Plan) -> Iterator[Case]:
    """What is timed."""
    if plan.sizes:
        yield from (case(cell, size, what) for size in plan.sizes for cell in plan.cells for what in PASSES)
        return
    sizes = {"quick": TABLE, "usual": USUAL, "full": WHOLE}[plan.extent]
    for size in sizes:
        for cell in plan.cells:
            yield case(cell, size, "forward+backward")
            yield case(cell, size, "forward")
            if not plan.quick and (size in TABLE or plan.extent == "full"):
                yield case(cell, size, "training step")
    if "lstm" in plan.cells and not plan.quick:
        yield from (seed_deep(what) for what in PASSES)
    yield from (variable_lengths(cell) for cell in plan.cells)


def measure(plan: Plan) -> Iterator[Row]:
    """One row a case."""
    for one in cases(plan):
        names = names_of(one, plan.quick)
        check_agreement(one, names)
        calls = {name: call_of(one, name) for name in names}
        times = interleave(calls | limit_calls(), plan.seconds)
        del calls
        weighed = [] if plan.quick else names if one.what != "forward" else [TORCH, "auto"]
        yield row(one, times, {name: peak_mebibytes(one, name, torch.get_num_threads()) for name in weighed})


def row(one: Case, times: dict[str, Times], memory: dict[str, float | None]) -> Row:
    """The figures of one case."""
    limits = limits_from(times)
    contestants = {name: value for name, value in times.items() if name not in LIMITS}
    least = limits.milliseconds(counting.operations(one), counting.bytes_moved(one))
    return {
        "cell": one.cell,
        "size": one.shape,
        "what": one.what,
        "variable": one.ragged,
        "auto": picked(one),
        "ratios": {name: times[TORCH].median / value.median for name, value in contestants.items() if name != TORCH},
        "milliseconds": {name: value._asdict() for name, value in contestants.items()},
        "tokens_per_second": {name: 1e3 * one.tokens() / value.median for name, value in contestants.items()},
        "peak_mebibytes": memory,
        "operations": counting.operations(one),
        "bytes": counting.bytes_moved(one),
        "limit_milliseconds": least,
        "share_of_limit": {name: least / value.median for name, value in contestants.items()},
        "share_of_product_rate": counting.operations(one) / limits.operations / times["auto"].median * 1e3,
    }


def header(rows: list[Row]) -> list[str]:
    """Ratios first, for whoever took part."""
    seen = [name for name in FIRST if any(name in one["ratios"] for one in rows)]
    return [
        "cell",
        "H x L x T x B",
        "what",
        *seen,
        "`auto` takes",
        "share of limit",
        "`auto`, ms",
        "torch.nn, ms",
        "tokens/s",
        "peak MiB, ours / torch.nn",
    ]


def line(one: Row, head: list[str]) -> list[str]:
    """One row of the table."""
    ratios = [f"{one['ratios'][name]:.1f}x" if name in one["ratios"] else "–" for name in head if name in FIRST]
    times = [str(Times(**one["milliseconds"][name])) for name in ("auto", TORCH)]
    peaks = [one["peak_mebibytes"].get(name) for name in ("auto", TORCH)]
    return [
        one["cell"],
        one["size"],
        one["what"] + (", both ways, lengths vary" if one["variable"] else ""),
        *ratios,
        one["auto"],
        f"{one['share_of_limit']['auto']:.0%}",
        *times,
        f"{one['tokens_per_second']['auto']:,.0f}",
        " / ".join("–" if peak is None else f"{peak:.1f}" for peak in peaks),
    ]


def draw(rows: list[Row], path: Path) -> None:
    """How many times as fast as torch.nn, and the share of the machine's limit."""

    def label(one: Row) -> str:
        return f"{one['cell']} {one['size']}" + (" lengths" if one["variable"] else "")

    panels: list[tuple[str, list[tuple[str, float]]]] = []
    for what in PASSES:
        chosen = [one for one in rows if one["what"] == what]
        if chosen:
            panels.append((f"{what}: times as fast as torch.nn", [(label(r), r["ratios"]["auto"]) for r in chosen]))
    both: Any = [one for one in rows if one["what"] == "forward+backward"]
    panels.append(
        ("forward+backward: share of the machine's limit", [(label(r), r["share_of_limit"]["auto"]) for r in both])
    )
    pictures.bars(panels, path)


SECTION = Section("Every size: times are torch.nn's over each contestant's", measure, header, line, draw)
