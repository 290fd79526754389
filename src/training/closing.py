"""The end of a run: its best weights taken up again, what the task reports of them, and the summary."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from src.data.base import Data
from src.diagnostics import Diagnostics
from src.tasks.base import Task
from src.tracking import Tracker
from src.training.checkpoint import load_weights
from src.training.distributed import World
from src.training.stopping import Position

Summary = dict[str, Any]
"""What summary.json holds."""


def take_best(model: nn.Module, run_dir: Path, world: World) -> None:
    """Give the model, in all processes, the weights of ``best.ckpt``; it keeps its own where there is none."""
    if world.main and (run_dir / "best.ckpt").exists():
        load_weights(model, run_dir / "best.ckpt")
    world.share_weights(model)


def report(
    model: nn.Module, task: Task, data: Data, split: str, run_dir: Path, tracker: Tracker, diagnostics: Diagnostics
) -> dict[str, Path]:
    """Write the task's report on a split and the diagnostics' pictures; what fails is told, and does not end the run.

    Returns:
        The files written, by name.
    """
    model.eval()
    with torch.inference_mode():
        files = tracker.attempt("the report", lambda: task.report(model, data, split, run_dir))
    return files | tracker.attempt("the diagnostics' pictures", diagnostics.draw)


def summarize(
    best: dict[str, Any],
    final: dict[str, Any],
    test: dict[str, float],
    pruned: str | None,
    model: nn.Module,
    position: Position,
) -> Summary:
    """Put together what summary.json holds; ``test`` and ``pruned`` where there is such a thing."""
    summary: Summary = {"best": best, "final": final}
    if test:
        summary["test"] = test
    if pruned:
        summary["pruned"] = pruned
    summary["params"] = sum(parameter.numel() for parameter in model.parameters())
    return summary | {"seconds": round(position.seconds, 3), "steps": position.step}
