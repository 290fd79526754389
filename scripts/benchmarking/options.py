"""Section ``options``: what links, directions, lengths and regularisers cost an operation, beside a plain stack."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarking import counting, pictures
from benchmarking.cases import Size, case
from benchmarking.section import Plan, Row, Section
from benchmarking.timing import Call, Times, interleave
from deep_rnn import DeepRNN

SIZE: Size = (128, 3, 100, 32)
TARGET = 1.5
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "residual": {"link": "residual"},
    "highway": {"link": "highway"},
    "bidirectional": {"bidirectional": True},
    "lengths": {},
    "zoneout": {"zoneout": 0.1},
    "layer norm": {"layer_norm": True},
    "recurrent dropout": {"recurrent_dropout": 0.2},
}


class Contestant(NamedTuple):
    """A stack with one option."""

    call: Call
    operations: int
    explained: str  # the backends that run it


def measure(plan: Plan) -> Iterator[Row]:
    """One row a cell and option; all options of a cell take turns."""
    for size in plan.sizes or (SIZE,):
        for cell in plan.cells:
            contestants = {name: contestant(cell, size, name) for name in OPTIONS}
            times = interleave({name: one.call for name, one in contestants.items()}, plan.seconds)
            plain = times["plain"].median / contestants["plain"].operations
            for name, one in contestants.items():
                yield {
                    "cell": cell,
                    "option": name,
                    "size": case(cell, size, "").shape,
                    "cost": times[name].median / one.operations / plain,
                    "milliseconds": times[name]._asdict(),
                    "operations": one.operations,
                    "backend": one.explained,
                }


def contestant(cell: str, size: Size, option: str) -> Contestant:
    """Forward and backward of a stack in training, and the operations of its products."""
    hidden, layers, time, batch = size
    torch.manual_seed(0)
    rnn = DeepRNN(hidden, hidden, layers, cell, **OPTIONS[option])
    x = torch.randn(time, batch, hidden, requires_grad=True)
    lengths = torch.linspace(0, time, batch).round().long() if option == "lengths" else None
    grad = torch.ones(time, batch, rnn.output_size)

    def call() -> None:
        rnn(x, lengths=lengths)[0].backward(grad)
        x.grad = None
        rnn.zero_grad(set_to_none=True)

    lines = rnn.explain(x, lengths).splitlines()
    backends = sorted({line.partition(": ")[2].split(" ")[0] for line in lines})
    return Contestant(call, operations(cell, size, option, lengths), " and ".join(backends))


def operations(cell: str, size: Size, option: str, lengths: Tensor | None) -> int:
    """Products of the cells, forward and backward, and of a highway link's gates."""
    hidden, layers, time, batch = size
    # Products follow from steps times sequences alone, so a batch of valid steps stands for one with lengths.
    steps = time * batch if lengths is None else int(lengths.sum())
    counted = case(cell, (hidden, layers, steps, 1), "forward+backward")._replace(input_size=hidden)
    gates = 3 * 2 * steps * layers * hidden * hidden if option == "highway" else 0
    return counting.operations(counted._replace(both_ways=option == "bidirectional")) + gates


def header(rows: list[Row]) -> list[str]:
    """Ratios first."""
    return ["cell", "H x L x T x B", "option", f"cost per operation (plain: 1; at most {TARGET})", "backend", "ms"]


def line(one: Row, head: list[str]) -> list[str]:
    """One row of the table."""
    times = str(Times(**one["milliseconds"]))
    return [one["cell"], one["size"], one["option"], f"{one['cost']:.2f}x", one["backend"], times]


def draw(rows: list[Row], path: Path) -> None:
    """A panel a cell."""
    cells = dict.fromkeys(one["cell"] for one in rows)
    chosen = {cell: [(one["option"], one["cost"]) for one in rows if one["cell"] == cell] for cell in cells}
    pictures.bars([(f"{cell}: cost per operation", values) for cell, values in chosen.items()], path, at=TARGET)


SECTION = Section("What options cost for each counted operation, forward+backward", measure, header, line, draw)
