"""The model's table before training."""

from collections.abc import Callable
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table
from torch import Tensor, nn

MOST_ROWS = 100
"""Below each part of a model; what is beyond stands in one row."""


def model_table(model: nn.Module, forward: Callable[[], object]) -> Table:
    """Describe a model in the manner of Keras: each part, the shape it gives and its parameters, and their sum.

    A part is a child of the model; below it stand the modules in it that own parameters. Nothing random is drawn, and
    the model stays as it was.

    Args:
        model: what to describe.
        forward: runs the model on a batch.
    """
    shapes = output_shapes(model, forward)
    table = Table(title=type(model).__name__, title_justify="left", show_footer=True)
    total, trainable = count(model), count(model, trainable=True)
    table.add_column("Layer", footer="total")
    table.add_column("Kind", footer=f"{trainable:,} trainable" if trainable < total else "")
    table.add_column("Output shape")
    table.add_column("Parameters", justify="right", footer=f"{total:,}")
    for name, part in model.named_children():
        table.add_row(name, kind(part), shapes.get(name, ""), f"{count(part):,}")
        below = [(path, module, own_count(module)) for path, module in part.named_modules() if path]
        owners = [row for row in below if row[2]]
        for path, module, own in owners[:MOST_ROWS]:
            table.add_row(f"  {path}", kind(module), "", f"{own:,}")
        if rest := owners[MOST_ROWS:]:
            table.add_row(f"  … and {len(rest)} more", "", "", f"{sum(own for *_, own in rest):,}")
    return table


def own_count(module: nn.Module) -> int:
    """Number of weights that a module owns itself, without those of its children."""
    return sum(weight.numel() for weight in module.parameters(recurse=False))


def count(module: nn.Module, trainable: bool = False) -> int:
    """Number of weights of a module; each is counted once however often it is shared."""
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad or not trainable)


def kind(module: nn.Module) -> str:
    """Say what a module is, as its repr does but on one line and without its children."""
    extra = " ".join(module.extra_repr().split())
    return escape(f"{type(module).__name__}({extra})" if extra else type(module).__name__)


def output_shapes(model: nn.Module, forward: Callable[[], object]) -> dict[str, str]:
    """Run the model once and return the shape that each of its children gave, by name."""
    shapes: dict[str, str] = {}

    def note(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            first = output[0] if isinstance(output, tuple) else output
            if isinstance(first, Tensor):
                shapes[name] = str(tuple(first.shape))

        return hook

    hooks = [child.register_forward_hook(note(name)) for name, child in model.named_children()]
    training, device = model.training, next(model.parameters()).device
    try:
        with torch.inference_mode(), torch.random.fork_rng([device] if device.type == "cuda" else []):
            model.eval()
            forward()
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return shapes
