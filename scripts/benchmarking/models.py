"""Section ``models``: K models of one shape trained as one mapped call, against one after another."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch.func import functional_call, stack_module_state, vmap

from benchmarking import pictures
from benchmarking.cases import Size, case
from benchmarking.section import Plan, Row, Section
from benchmarking.stacks import TORCH, TorchStack, inputs_of, stack_of
from benchmarking.timing import Call, Times, interleave

SIZE: Size = (5, 2, 100, 32)
COUNT = 16
TOGETHER, IN_TURN = "one vmapped call", "one after another"


def measure(plan: Plan) -> Iterator[Row]:
    """One row a cell."""
    for size in plan.sizes or (SIZE,):
        for cell in plan.cells:
            calls = contestants(cell, size)
            times = interleave(calls, plan.seconds)
            yield {
                "cell": cell,
                "size": case(cell, size, "").shape,
                "models": COUNT,
                "ratios": {name: times[name].median / times[TOGETHER].median for name in (IN_TURN, TORCH)},
                "milliseconds": {name: value._asdict() for name, value in times.items()},
            }


def contestants(cell: str, size: Size) -> dict[str, Call]:
    """Forward and backward of all models, each with a batch and weights of its own."""
    one = case(cell, size, "forward+backward")
    models = [stack_of(one) for _ in range(COUNT)]
    for k, model in enumerate(models):
        torch.manual_seed(k)
        for weight in model.parameters():
            torch.nn.init.uniform_(weight, -0.3, 0.3)
    theirs = [TorchStack(model, one) for model in models]
    x = torch.stack([inputs_of(one) + k for k in range(COUNT)])
    parameters, buffers = stack_module_state(models)
    grad = torch.ones(COUNT, one.time, one.batch, one.widths[-1])

    def together() -> None:
        run = vmap(lambda p, b, x: functional_call(models[0], (p, b), (x,))[0])
        run(parameters, buffers, x).backward(grad)
        for value in parameters.values():
            value.grad = None

    def in_turn() -> None:
        for k, model in enumerate(models):
            model(x[k])[0].backward(grad[k])
            model.zero_grad(set_to_none=True)

    def torch_in_turn() -> None:
        for k, model in enumerate(theirs):
            model(x[k]).backward(grad[k])
            model.zero_grad(set_to_none=True)

    return {TOGETHER: together, IN_TURN: in_turn, TORCH: torch_in_turn}


def header(rows: list[Row]) -> list[str]:
    """Ratios first."""
    times = [f"{name}, ms" for name in (TOGETHER, IN_TURN, TORCH)]
    return ["cell", "H x L x T x B", "models", "against one by one", "against torch.nn one by one", *times]


def line(one: Row, head: list[str]) -> list[str]:
    """One row of the table."""
    ratios = [f"{one['ratios'][name]:.1f}x" for name in (IN_TURN, TORCH)]
    times = [str(Times(**one["milliseconds"][name])) for name in (TOGETHER, IN_TURN, TORCH)]
    return [one["cell"], one["size"], str(one["models"]), *ratios, *times]


def draw(rows: list[Row], path: Path) -> None:
    """How many times as fast as one after another."""
    ratios = {name: [(one["cell"], one["ratios"][name]) for one in rows] for name in (IN_TURN, TORCH)}
    pictures.bars([(f"{TOGETHER} against {name}", values) for name, values in ratios.items()], path)


SECTION = Section(f"{COUNT} models as one call, forward+backward", measure, header, line, draw)
