"""curves.png: what a run's metrics did over its steps."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from src.files import write_atomic

SPLITS = ("train", "train_epoch", "val", "test")


def draw_curves(lines: Sequence[Mapping[str, Any]], path: Path, monitor: str) -> None:
    """Draw each metric over the steps, training and validation in one panel.

    Args:
        lines: of metrics.jsonl.
        path: the PNG to write.
        monitor: the metric that the baselines belong to.
    """
    from matplotlib.figure import Figure  # late: no run should wait for matplotlib before it trains

    panels = _panels(lines, monitor.rpartition("/")[2])
    columns = min(3, max(1, len(panels)))
    rows = -(-max(1, len(panels)) // columns)
    figure = Figure(figsize=(4.5 * columns, 3.2 * rows), layout="constrained")  # no pyplot: no display needed
    for axes, (name, keys) in zip(figure.subplots(rows, columns, squeeze=False).flat, panels.items(), strict=False):
        for key in keys:
            points = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
            dashed = key.endswith("baseline")
            axes.plot(*zip(*points, strict=True), "--" if dashed else ".-", lw=1, ms=3, label=key.replace("_epoch", ""))
        axes.set(title=name, xlabel="step")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    for axes in figure.axes[len(panels) :]:
        axes.remove()
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write_atomic(path, picture.getvalue())


def _panels(lines: Sequence[Mapping[str, Any]], monitored: str) -> dict[str, list[str]]:
    """Group metric names by what comes after the slash: val/loss beside train/loss."""
    names = {name: None for line in lines for name, value in line.items() if "/" in name and value is not None}
    panels: dict[str, list[str]] = {}
    for name in names:
        metric = name.partition("/")[2]
        # The epoch's loss is the same as train/loss, only coarser; what the diagnostics find has pictures of its own.
        if name == "train_epoch/loss" or name.partition("/")[0] not in SPLITS:
            continue
        panels.setdefault(monitored if metric == "baseline" else metric, []).append(name)
    return panels
