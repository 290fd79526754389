"""Section ``drop_in``: torch.nn's layers and the same after ``deep_rnn.accelerate``, as public projects use them.

The shapes, options and batches are those that the projects' own code has by default; the layers are torch.nn's. Whole
models also spend time on embeddings, convolutions and losses, which nothing here changes.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

import deep_rnn
from benchmarking import pictures
from benchmarking.section import Plan, Row, Section
from benchmarking.timing import Call, Times, interleave

TORCH, OURS = "torch.nn", "accelerated"
QUICK = ("word language model", "translation encoder", "one step of a policy")
BOTH = {"bidirectional": True}
CASES: dict[str, tuple[type[nn.Module], int, int, dict[str, Any], int, int, str]] = {
    # layer, inputs, units, options, steps, sequences, form
    "word language model": (nn.LSTM, 200, 200, {"num_layers": 2, "dropout": 0.2}, 35, 20, "padded"),
    "word language model, large": (nn.LSTM, 650, 650, {"num_layers": 2, "dropout": 0.5}, 35, 20, "padded"),
    "AWD-LSTM's middle layer": (nn.LSTM, 1150, 1150, {}, 70, 20, "padded"),
    "source separation": (nn.LSTM, 512, 256, {"num_layers": 3, "dropout": 0.4, **BOTH}, 255, 16, "padded"),
    "speech recognition": (nn.LSTM, 512, 512, {"num_layers": 2, **BOTH}, 100, 8, "packed"),
    "translation encoder": (nn.LSTM, 500, 250, {"num_layers": 2, "dropout": 0.3, **BOTH}, 30, 32, "packed"),
    "tagger": (nn.LSTM, 512, 256, BOTH, 25, 32, "packed"),
    "forecast encoder": (nn.LSTM, 10, 64, {"num_layers": 2, "dropout": 0.1}, 60, 128, "packed"),
    "a wave, step by step": (nn.LSTMCell, 1, 51, {}, 1, 97, "step"),
    "captions, step by step": (nn.LSTMCell, 2560, 512, {}, 1, 32, "step"),
    "one step of a policy": (nn.LSTM, 64, 256, {}, 1, 8, "padded"),
    "rollouts of a policy": (nn.LSTM, 64, 256, {}, 128, 8, "padded"),
    "speech features, GRU": (nn.GRU, 256, 256, {"num_layers": 2, **BOTH}, 200, 8, "padded"),
    "word language model, GRU": (nn.GRU, 200, 200, {"num_layers": 2, "dropout": 0.2}, 35, 20, "padded"),
    "word language model, tanh": (nn.RNN, 200, 200, {"num_layers": 2, "dropout": 0.2}, 35, 20, "padded"),
}


def measure(plan: Plan) -> Iterator[Row]:
    """Without gradients in evaluation, and forward+backward in training, dropout included."""
    for name in QUICK if plan.quick else CASES:
        for task in ("forward", "forward+backward"):
            times = interleave(contestants(name, backward=task != "forward"), plan.seconds)
            yield {
                "case": name,
                "layer": describe(name),
                "task": task,
                "ratio": times[TORCH].median / times[OURS].median,
                "milliseconds": {key: value._asdict() for key, value in times.items()},
            }


def describe(name: str) -> str:
    """A case in words."""
    layer, inputs, units, options, steps, batch, form = CASES[name]
    said = [f"{key}={value}" for key, value in options.items()]
    return f"{layer.__name__} {inputs} -> {units} {' '.join(said)}, {steps} x {batch} {form}".replace("  ", " ")


def contestants(name: str, *, backward: bool) -> dict[str, Call]:
    """One layer as it is, and its double on our kernels."""
    torch.manual_seed(0)
    kind, inputs, units, options, steps, batch, form = CASES[name]
    theirs = kind(inputs, units, **options).train(backward)
    ours = deep_rnn.accelerate(copy.deepcopy(theirs))
    x = torch.randn(batch, inputs) if form == "step" else torch.randn(steps, batch, inputs)
    lengths = torch.randint(max(steps // 2, 1), steps + 1, (batch,)).sort(descending=True).values
    given = pack_padded_sequence(x, lengths) if form == "packed" else x

    def call(layer: nn.Module) -> Call:
        def run() -> None:
            with torch.set_grad_enabled(backward):
                output = first(layer(given))
                if backward:
                    output.sum().backward()
                    layer.zero_grad()

        return run

    return {TORCH: call(theirs), OURS: call(ours)}


def first(result: Any) -> Tensor:
    """The output among what a layer or a cell returns."""
    if isinstance(result, tuple) and not isinstance(result, PackedSequence):
        result = result[0]
    return result.data if isinstance(result, PackedSequence) else result


def header(rows: list[Row]) -> list[str]:
    """The ratio first."""
    return ["as in", "layer", "task", "torch.nn's time over ours", "torch.nn, ms", "ours, ms"]


def line(one: Row, head: list[str]) -> list[str]:
    """One row of the table."""
    times = [str(Times(**value)) for value in one["milliseconds"].values()]
    return [one["case"], one["layer"], one["task"], f"{one['ratio']:.2f}x", *times]


def draw(rows: list[Row], path: Path) -> None:
    """How many times as fast as torch.nn."""
    tasks = sorted({row["task"] for row in rows})
    bars = [(task, [(row["case"], row["ratio"]) for row in rows if row["task"] == task]) for task in tasks]
    pictures.bars(bars, path)


SECTION = Section("torch.nn's layers after deep_rnn.accelerate", measure, header, line, draw)
