"""What depth does to a plain tanh stack, with and without links: ``python scripts/depth_figure.py``.

Trains 1 to 16 layers with link none, residual and highway on IMDb (a sweep like any other: run it again and it goes on
where it was), and draws how much gradient reaches the bottom layer, and the accuracy. About five minutes a seed on two
cores.
"""

import argparse
import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import numpy as np
from matplotlib.figure import Figure

from src.arguments import folder_name, names_run
from src.files import write_atomic
from src.sweeps.report.figures import COLOURS, MARKERS
from src.sweeps.report.runs import Run, read_runs

PICTURES = Path("docs/pictures")
LINKS = ("none", "residual", "highway")
DEPTHS = (1, 2, 4, 8, 16)
SETTINGS = [
    "model=rnn",
    "width=32",
    "task.embedding=32",
    "batch_size=64",
    "epochs=3",
    "logger=none",
    "trainer.summary=false",
]
SETTINGS += ["diagnostics=gradient_flow", "diagnostics.gradient_flow.every=300"]


def train(folder: Path, seeds: int, overrides: list[str]) -> None:
    """Train what is not trained yet; ends this program where a run fails."""
    choices = [f"link={','.join(LINKS)}", f"depth={','.join(map(str, DEPTHS))}"]
    choices.append(f"seed={','.join(map(str, range(seeds)))}")
    where = [f"sweep.name={folder.name}", f"hydra.sweep.dir={folder}"]
    done = subprocess.run(
        [sys.executable, "-m", "src.train", "-m", *SETTINGS, *choices, *where, *overrides], check=False
    )
    if done.returncode:
        sys.exit(done.returncode)


def default_folder(overrides: list[str]) -> Path:
    """A folder of its own for other runs: the figure is drawn, and the means are taken, over all that lie there."""
    words = [override.replace("=", "-", 1) for override in sorted(overrides) if names_run(override)]
    return Path("outputs/sweeps") / folder_name("_".join(["depth_figure", *words]))


def bottom_share(norms: np.ndarray) -> float:
    """|dLoss/dh| over all steps of the bottom layer, as a share of the top layer's; norms [directions of layers, T]."""
    return float(np.linalg.norm(norms[0]) / np.linalg.norm(norms[-1]))


def flows(folder: Path, run: Run) -> np.ndarray:
    """[looks, L, T] what `diagnostics=gradient_flow` found in a run."""
    with np.load(folder / run.name / "gradient_flow.npz") as found:
        return found["norms"]


def draw(folder: Path, path: Path) -> None:
    """Three heat maps of the deepest stacks above, gradient and accuracy against depth below."""
    runs = {(run.config["link.name"], run.config["depth"], run.config["seed"]): run for run in read_runs(folder)}
    seeds = sorted({seed for _, _, seed in runs})
    figure = Figure(figsize=(9, 6.2), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[1, 1.15], squeeze=False)[:, 0]
    maps = {link: np.log10(np.maximum(flows(folder, runs[link, DEPTHS[-1], seeds[0]])[0], 1e-30)) for link in LINKS}
    high = max(float(values.max()) for values in maps.values())
    for axes, (link, values) in zip(upper.subplots(1, 3, sharey=True), maps.items(), strict=True):
        shown, extent = values[:, :60][:, ::-1], (-59.5, 0.5, 0.5, len(values) + 0.5)
        look = {"cmap": "magma", "vmin": high - 8, "vmax": high, "interpolation": "nearest", "aspect": "auto"}
        image = axes.imshow(shown, origin="lower", extent=extent, **look)
        axes.set(title=f"{DEPTHS[-1]} layers, link={link}", xlabel="time step, from the last")
    upper.axes[0].set(ylabel="layer", yticks=DEPTHS)
    upper.colorbar(image, ax=upper.axes, label="log10 |dLoss/dh|, first step")
    gradient, accuracy = lower.subplots(1, 2)
    for place, link in enumerate(LINKS):
        look = {"color": COLOURS[place], "marker": MARKERS[place], "label": link}
        for when, style in ((0, "-"), (-1, ":")):
            shares = [[bottom_share(flows(folder, runs[link, d, s])[when]) for s in seeds] for d in DEPTHS]
            line(gradient, shares, look | {"ls": style, "label": link if when == 0 else None})
        line(accuracy, [[accuracy_of(runs[link, d, s]) for s in seeds] for d in DEPTHS], look)
    gradient.set(title="gradient at the bottom layer / at the top layer", yscale="log")
    gradient.annotate("solid: first step, dotted: last look", (0.03, 0.04), xycoords="axes fraction", fontsize=8)
    baseline = next(iter(runs.values())).best["val/baseline"]
    accuracy.axhline(float(baseline or 0), ls="--", lw=1, color="#888888")
    accuracy.annotate("always the more frequent class", (1, float(baseline or 0)), va="bottom", fontsize=8)
    accuracy.set(title="best validation accuracy")
    for axes in (gradient, accuracy):
        axes.set_xscale("log", base=2)
        axes.set_xticks(DEPTHS, [str(depth) for depth in DEPTHS])
        axes.set_xlabel("layers")
        axes.grid(alpha=0.3)
    gradient.legend(title="link", fontsize=8)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100, pil_kwargs={"optimize": True})
    write_atomic(path, picture.getvalue())


def accuracy_of(run: Run) -> float:
    """Its best validation accuracy."""
    return float(run.best["val/accuracy"] or 0)


def line(axes: Any, values: list[list[float]], look: dict[str, Any]) -> None:
    """The mean over seeds against depth, and the range where there are several."""
    axes.plot(DEPTHS, np.mean(values, 1), lw=1.6, ms=5, **look)
    if len(values[0]) > 1:
        axes.fill_between(DEPTHS, np.min(values, 1), np.max(values, 1), color=look["color"], alpha=0.15, lw=0)


def table(folder: Path) -> str:
    """The figure's numbers in Markdown: means over seeds."""
    rows = [f"| layers | {' | '.join(f'{link}: gradient | {link}: accuracy' for link in LINKS)} |", "|---" * 7 + "|"]
    runs = read_runs(folder)
    for depth in DEPTHS:
        cells = []
        for link in LINKS:
            these = [run for run in runs if (run.config["link.name"], run.config["depth"]) == (link, depth)]
            shares = [bottom_share(flows(folder, run)[0]) for run in these]
            cells.append(f"{np.mean(shares):.2g} | {np.mean([accuracy_of(run) for run in these]):.3f}")
        rows.append(f"| {depth} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    """Train, draw, and print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=1, help="how many (default: 1)")
    parser.add_argument("--folder", type=Path, help="of the sweep (default: outputs/sweeps/depth_figure…)")
    parser.add_argument(
        "--out",
        type=Path,
        help="the picture (default: docs/pictures/depth.png; with overrides depth.png in the folder)",
    )
    parser.add_argument("overrides", nargs="*", help="of the runs, such as max_steps=50 to try it out")
    chosen = parser.parse_args()
    folder = chosen.folder or default_folder(chosen.overrides)
    train(folder, chosen.seeds, chosen.overrides)
    out = chosen.out or (folder if chosen.overrides else PICTURES) / "depth.png"
    draw(folder, out)
    print(f"{table(folder)}\n\n{out}")


if __name__ == "__main__":
    main()
