"""Section ``loss``: the softmax of a language model and its loss, fused, against torch's own operators."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch.nn import functional as F

from benchmarking import pictures
from benchmarking.machine import LIMITS, limit_calls, limits_from
from benchmarking.section import Plan, Row, Section
from benchmarking.timing import Call, Times, interleave
from deep_rnn.kernels.linear_cross_entropy import formula, linear_cross_entropy

SIZES = {  # tokens of a chunk, features, classes
    "char_lm": (4096, 448, 65),
    "word_lm": (2240, 128, 10_000),
    "awd_lstm": (700, 128, 10_000),
    "rhn": (1400, 256, 10_000),
}
FUSED, TORCH, CHUNKED = "fused", "torch", "torch in chunks of 512"
CHUNK = 512


def measure(plan: Plan) -> Iterator[Row]:
    """Forward only and with backward, for the softmax of each language model that conf/experiment holds."""
    for name, (tokens, features, classes) in SIZES.items():
        for task, products in (("forward", 1), ("forward+backward", 3)):
            calls = contestants(tokens, features, classes, backward=products == 3)
            times = interleave(calls | limit_calls(), plan.seconds)
            operations = products * 2 * tokens * features * classes
            least = 1e3 * operations / limits_from(times).operations
            times = {key: value for key, value in times.items() if key not in LIMITS}
            yield {
                "experiment": name,
                "size": f"{tokens}x{features}x{classes}",
                "task": task,
                "ratios": {key: value.median / times[FUSED].median for key, value in times.items() if key != FUSED},
                "share_of_product_rate": least / times[FUSED].median,
                "milliseconds": {key: value._asdict() for key, value in times.items()},
            }


def contestants(tokens: int, features: int, classes: int, *, backward: bool) -> dict[str, Call]:
    """The loss of random tokens, by each way to it."""
    torch.manual_seed(0)
    hidden = torch.randn(tokens, features).requires_grad_(backward)
    weight = torch.empty(classes, features).uniform_(-0.1, 0.1).requires_grad_(backward)
    bias, targets = torch.zeros(classes).requires_grad_(backward), torch.randint(classes, (tokens,))

    def call(loss: Call) -> Call:
        def run() -> None:
            value = loss()
            if backward:
                assert isinstance(value, torch.Tensor)
                (value / tokens).backward()
                hidden.grad = weight.grad = bias.grad = None

        return run

    calls = {
        FUSED: call(lambda: linear_cross_entropy(hidden, weight, bias, targets)),
        TORCH: call(lambda: formula(hidden, weight, bias, targets)),
    }
    if hasattr(torch.nn, "LinearCrossEntropyOptions"):  # torch 2.13
        options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=CHUNK)
        calls[CHUNKED] = call(
            lambda: F.linear_cross_entropy(hidden, weight, targets, linear_bias=bias, reduction="sum", options=options)
        )
    return calls


def header(rows: list[Row]) -> list[str]:
    """Ratios first."""
    ways = list(rows[0]["milliseconds"])
    ratios, times = [f"against {name}" for name in ways[1:]], [f"{name}, ms" for name in ways]
    return ["softmax of", "tokens x features x classes", "task", *ratios, "share of product rate", *times]


def line(one: Row, head: list[str]) -> list[str]:
    """One row of the table."""
    ratios = [f"{value:.1f}x" for value in one["ratios"].values()]
    times = [str(Times(**value)) for value in one["milliseconds"].values()]
    return [one["experiment"], one["size"], one["task"], *ratios, f"{one['share_of_product_rate']:.0%}", *times]


def draw(rows: list[Row], path: Path) -> None:
    """How many times as fast as torch."""
    ratios = {way: [(f"{r['experiment']}, {r['task']}", r["ratios"][way]) for r in rows] for way in rows[0]["ratios"]}
    pictures.bars([(f"fused against {way}", values) for way, values in ratios.items()], path)


SECTION = Section("The softmax of a language model and its loss", measure, header, line, draw)
