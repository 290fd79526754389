"""The benchmark's charts."""

from pathlib import Path
from typing import Any

from src.files import atomic_file


def bars(panels: list[tuple[str, list[tuple[str, float]]]], path: Path, at: float = 1.0) -> None:
    """A panel of horizontal bars for each (title, [(label, value)]), a line where a value is ``at``."""
    figure, axes = canvas(len(panels), max(len(values) for _, values in panels))
    for axis, (title, values) in zip(axes, panels, strict=True):
        labels, numbers = [label for label, _ in values], [number for _, number in values]
        drawn = axis.barh(range(len(values)), numbers, color="#3b6ea5")
        axis.bar_label(drawn, [f"{number:.2g}" for number in numbers], padding=2, fontsize=7)
        axis.set_yticks(range(len(values)), labels, fontsize=7)
        axis.invert_yaxis()
        axis.axvline(at, color="#a33", linewidth=0.8)
        axis.set_title(title, fontsize=9)
        axis.margins(x=0.15)
    save(figure, path)


def lines(panels: list[tuple[str, str, dict[str, list[tuple[float, float]]]]], path: Path) -> None:
    """A panel of measured points and their least-squares line for each (title, x label, {series: [(x, y)]})."""
    import numpy as np

    figure, axes = canvas(len(panels), 14)
    for axis, (title, label, series) in zip(axes, panels, strict=True):
        for name, points in series.items():
            x, y = np.array(points).T
            slope, start = np.polyfit(x, y, 1)
            (dots,) = axis.plot(x, y, "o", markersize=4, label=name)
            axis.plot(x, slope * x + start, color=dots.get_color(), linewidth=0.8)
        axis.set_xlabel(label)
        axis.set_ylabel("milliseconds")
        axis.set_xlim(left=0)
        axis.set_ylim(bottom=0)
        axis.set_title(title, fontsize=9)
        axis.legend(fontsize=8)
    save(figure, path)


def canvas(columns: int, rows: int) -> tuple[Any, list[Any]]:
    """A figure with panels side by side, high enough for its rows."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, columns, figsize=(5 * columns, 1.2 + 0.22 * rows), squeeze=False)
    return figure, list(axes[0])


def save(figure: Any, path: Path) -> None:
    """Write the picture, whole or not at all."""
    figure.tight_layout()
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=110)
    figure.clear()
