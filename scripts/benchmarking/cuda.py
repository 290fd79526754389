"""Section ``cuda``: on a GPU, compiled chunks against the loop, and cuDNN where it has the cell.

This is what decides whether ``auto`` takes ``compiled`` there (``deep_rnn.kernels.compiled.yields``).
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarking import pictures
from benchmarking.cases import Size, case
from benchmarking.section import Plan, Row, Section
from benchmarking.timing import Call, Times, interleave
from deep_rnn import DeepRNN

BACKENDS = ("loop", "compiled", "native")
CELLS = ("slstm", "lem", "rhn", "mgu", "indrnn", "gru", "lstm")  # cuDNN has the last two, for the distance to it
SIZES: tuple[Size, ...] = ((64, 2, 100, 32), (512, 2, 100, 32), (1024, 2, 35, 128))
AGREE = 1e-3  # largest difference of outputs: same function, other order of additions


def measure(plan: Plan, device: str = "cuda", cells: tuple[str, ...] = CELLS) -> Iterator[Row]:
    """One row a size, cell and pass; the backends that can take turns."""
    for size in plan.sizes or (SIZES[:1] if plan.quick else SIZES):
        for cell in cells:
            for backward in (False, True):
                yield row(cell, size, backward, device, plan.seconds)


def row(cell: str, size: Size, backward: bool, device: str, seconds: float) -> Row:
    """The figures of one pass.

    Raises:
        RuntimeError: a backend's outputs differ from the loop's.
    """
    hidden, layers, steps, batch = size
    torch.manual_seed(0)
    rnn = DeepRNN(hidden, hidden, layers, cell, device=device)
    x = torch.randn(steps, batch, hidden, device=device, requires_grad=backward)
    calls: dict[str, Call] = {}
    first: dict[str, float] = {}
    outputs: dict[str, torch.Tensor] = {}
    for backend in BACKENDS:
        if backend != "native" or rnn.layers[0].cell.native_mode is not None:
            calls[backend] = call_of(rnn, backend, x)
            started = time.perf_counter()
            calls[backend]()
            first[backend] = time.perf_counter() - started
            outputs[backend] = rnn(x)[0].detach()
            if not (difference := float((outputs[backend] - outputs["loop"]).abs().max())) <= AGREE:
                raise RuntimeError(f"{backend} differs from loop by {difference:g} at {cell} {size}")
    times = interleave(calls, seconds)
    return {
        "cell": cell,
        "size": case(cell, size, "").shape,
        "what": "forward+backward" if backward else "forward",
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "ratios": {name: times["loop"].median / value.median for name, value in times.items()},
        "milliseconds": {name: value._asdict() for name, value in times.items()},
        "seconds_of_first": first,
    }


def call_of(rnn: DeepRNN, backend: str, x: torch.Tensor) -> Call:
    """A pass on a backend, from beginning to end: the GPU is waited for."""

    def call() -> None:
        rnn.backend = backend
        with torch.set_grad_enabled(x.requires_grad):
            output, _ = rnn(x)
            if x.requires_grad:
                output.sum().backward()
                x.grad = None
                rnn.zero_grad(set_to_none=True)
        if x.is_cuda:
            torch.cuda.synchronize()

    return call


def header(rows: list[Row]) -> list[str]:
    """Ratios first."""
    ratios = [f"the loop's time over `{name}`'s" for name in BACKENDS[1:]]
    return [
        "cell",
        "H x L x T x B",
        "what",
        *ratios,
        *(f"{name}, ms" for name in BACKENDS),
        "first call of `compiled`, s",
    ]


def line(one: Row, head: list[str]) -> list[str]:
    """One row of the table."""
    ratios = [f"{one['ratios'][name]:.1f}x" if name in one["ratios"] else "–" for name in BACKENDS[1:]]
    found: dict[str, Any] = one["milliseconds"]
    times = [str(Times(**found[name])) if name in found else "–" for name in BACKENDS]
    return [one["cell"], one["size"], one["what"], *ratios, *times, f"{one['seconds_of_first']['compiled']:.0f}"]


def draw(rows: list[Row], path: Path) -> None:
    """How many times as fast as the loop."""
    panels = []
    for what in dict.fromkeys(one["what"] for one in rows):
        chosen = [(f"{one['cell']} {one['size']}", one["ratios"]["compiled"]) for one in rows if one["what"] == what]
        panels.append((f"{what}: the loop's time over that of compiled chunks", chosen))
    pictures.bars(panels, path)


def why_not() -> str | None:
    """Why there is nothing to measure here, or None."""
    return None if torch.cuda.is_available() else "needs an NVIDIA GPU"


SECTION = Section("Compiled chunks on a GPU", measure, header, line, draw, why_not)
