"""Time DeepRNN's backends against torch.nn, in turn in one run: ``python scripts/benchmark.py [--quick]``.

Prints a Markdown table, ratios first, and saves every figure as JSON. Times are medians of interleaved calls
(A B A B …) with the spread of the middle half; a ratio above 1 says how many times faster than torch.nn a backend was.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from src.models import DeepRNN

PEERS: dict[str, Any] = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
SIZES = [  # (hidden, layers, time, batch)
    (5, 2, 100, 32),
    (16, 2, 100, 32),
    (32, 2, 100, 32),
    (64, 2, 100, 32),
    (128, 1, 100, 1),
    (128, 3, 100, 32),
    (128, 2, 100, 128),
    (256, 2, 100, 64),
    (256, 1, 100, 1),
    (512, 3, 35, 32),
    (512, 2, 35, 1),
    (1024, 1, 35, 32),
]
QUICK = [(5, 2, 100, 32), (64, 2, 100, 32), (128, 3, 100, 32)]
BACKENDS = ("fused", "native", "auto")


def forward_backward(run: Callable[[], Tensor], backward: bool) -> Callable[[], None]:
    """One call to time: forward, and backward through the sum of the outputs."""

    def call() -> None:
        with torch.set_grad_enabled(backward):
            output = run()
        if backward:
            output.backward(torch.ones_like(output))

    return call


def interleave(calls: dict[str, Callable[[], None]], seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each call, run in turn until the time is up, at least five times each."""
    for call in calls.values():
        call(), call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times[next(iter(times))]) < 5:
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - started))
    return times


def contestants(cell: str, size: tuple[int, int, int, int], backward: bool, ragged: bool) -> dict[str, Any]:
    """torch.nn (packed where lengths vary) and every backend that can, on the same input and weights."""
    hidden, layers, steps, batch = size
    width = 32 if hidden == 5 else hidden  # the seed's embedding
    theirs = PEERS[cell](width, hidden, layers, bidirectional=ragged)
    x = torch.randn(steps, batch, width, requires_grad=backward)
    lengths = torch.randint(int(0.87 * steps), steps + 1, (batch,)) if ragged else None

    def torch_nn() -> Tensor:
        if lengths is None:
            return theirs(x)[0]
        return theirs(pack_padded_sequence(x, lengths, enforce_sorted=False))[0].data

    calls = {"torch.nn": forward_backward(torch_nn, backward)}
    for backend in BACKENDS:
        ours = DeepRNN.from_torch(theirs, backend=backend)
        try:
            ours.explain(x, lengths)
        except ValueError:
            continue
        calls[backend] = forward_backward(lambda ours=ours: ours(x, lengths=lengths)[0], backward)  # type: ignore[misc]
    return calls


def measure(cell: str, size: tuple[int, int, int, int], backward: bool, ragged: bool, seconds: float) -> dict[str, Any]:
    """One row: medians, quartiles and ratios of one cell at one size."""
    times = interleave(contestants(cell, size, backward, ragged), seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    quartiles = {name: statistics.quantiles(values, n=4)[::2] for name, values in times.items()}
    ratios = {name: medians["torch.nn"] / value for name, value in medians.items() if name != "torch.nn"}
    what = ("forward+backward" if backward else "forward") + (", both ways, lengths vary" if ragged else "")
    shape = dict(zip(("H", "L", "T", "B"), size, strict=True))
    return {"cell": cell, **shape, "what": what, "ratios": ratios, "milliseconds": medians, "quartiles": quartiles}


def to_row(row: dict[str, Any]) -> str:
    """One line of the Markdown table."""
    ratios = " | ".join(f"{row['ratios'][name]:.1f}x" if name in row["ratios"] else "–" for name in BACKENDS)
    low, high = row["quartiles"]["torch.nn"]
    peer = f"{row['milliseconds']['torch.nn']:.2f} ({low:.2f}–{high:.2f})"
    ours = f"{row['milliseconds']['auto']:.2f} ({row['quartiles']['auto'][0]:.2f}–{row['quartiles']['auto'][1]:.2f})"
    shape = f"{row['H']} | {row['L']} | {row['T']} | {row['B']}"
    return f"| {row['cell']} | {shape} | {row['what']} | {ratios} | {ours} | {peer} |"


def main() -> None:
    """Measure, print as it goes, and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three sizes, one second a row")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each row (default: 2)")
    parser.add_argument("--cells", default="rnn,lstm,gru", help="which cells (default: rnn,lstm,gru)")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmark.json"), help="where the figures go")
    chosen = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads; ratios are torch.nn's time over ours\n")
    print("| cell | H | L | T | B | what | fused | native | auto | auto, ms | torch.nn, ms |\n|" + "---|" * 11)
    rows = []
    jobs = [(size, backward, False) for size in (QUICK if chosen.quick else SIZES) for backward in (True, False)]
    jobs.append(((64, 1, 230, 64), True, True))
    for cell in chosen.cells.split(","):
        for size, backward, ragged in jobs:
            rows.append(measure(cell, size, backward, ragged, 1.0 if chosen.quick else chosen.seconds))
            print(to_row(rows[-1]), flush=True)
    chosen.out.parent.mkdir(parents=True, exist_ok=True)
    chosen.out.write_text(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads(), "rows": rows}))


if __name__ == "__main__":
    main()
