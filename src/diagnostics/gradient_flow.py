"""Vanishing and exploding gradients, seen: the total dLoss/dh_t^l of every layer l and time step t, and what follows.

The derivative of h_t^l is total (Pascanu et al. 2013): it counts every way from the state to the loss, upwards and
through the steps to come, with the state's other fields (an LSTM's c) held. So it is what back-propagation through time
carries, and what decides whether a layer learns from a step.
"""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from deep_rnn import DeepRNN
from src.diagnostics.base import Diagnostic, Scene, from_the_end, shades

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_PANELS = 5


class Direction(NamedTuple):
    """One direction of one layer."""

    name: str
    cell: Any
    turned: bool
    """Whether it visits the steps from the last to the first."""


class GradientFlow(Diagnostic):
    """Measures on one batch, in evaluation mode and through ``loop``, before each update that it looks at.

    Metrics, by part of the model (embedding, layer_0, …, head): ``gradient/`` the norm of dLoss/dW, ``weight/`` of W,
    ``update/`` of the update's change of W over that of W; and ``flow/`` the norm of dLoss/dh over a layer's steps.
    The record holds ``norms`` [looks, directions of layers, T], counted back from the last step that a direction takes
    of each sequence.
    """

    name = "gradient_flow"

    def before_update(self, step: int) -> None:
        """Measure the flow, and keep the weights."""
        self.flow, self.gradients = measure(self.scene)
        self.kept = {name: weight.detach().clone() for name, weight in self.scene.model.named_parameters()}

    def after_update(self, step: int) -> dict[str, float]:
        """Compare the weights, and record all of it."""
        weights = self.scene.model.named_parameters()
        changes = norms_of(self.scene, {name: weight.detach() - self.kept[name] for name, weight in weights})
        sizes = norms_of(self.scene, self.kept)
        del self.kept
        found = {"gradient": self.gradients, "weight": sizes}
        found["update"] = {part: changes[part] / size if size else 0.0 for part, size in sizes.items()}
        arrays = {name: np.array([values[part] for part in sizes]) for name, values in found.items()}
        self.record.add(step, norms=self.flow.numpy(), **arrays)
        metrics = {f"{name}/{part}": value for name, values in found.items() for part, value in values.items()}
        layers: dict[str, float] = defaultdict(float)
        for direction, norms in zip(directions(self.scene.stacks), self.flow, strict=True):
            layers[direction.name.split(" ")[0]] += float(norms.square().sum())
        return metrics | {f"flow/{layer}": square**0.5 for layer, square in layers.items()}

    def figure(self) -> "Figure":
        """Heat maps of log10 |dLoss/dh| at a few looks, and each part's ratios over the steps."""
        from matplotlib import colormaps
        from matplotlib.figure import Figure

        looks = sorted({round(place) for place in np.linspace(0, len(self.record) - 1, MOST_PANELS)})
        rows = [direction.name for direction in directions(self.scene.stacks)]
        figure = Figure(figsize=(max(9.0, 3.2 * len(looks)), 3.2 + 2.6 + 0.15 * len(rows)), layout="constrained")
        upper, lower = figure.subfigures(2, 1, height_ratios=[1.2, 1], squeeze=False)[:, 0]
        with np.errstate(divide="ignore"):
            maps = np.log10(self.record.stacked("norms"))
        low, high = span(maps[np.isfinite(maps)])
        colours = colormaps["magma"].with_extremes(bad="black")  # vanished altogether
        upper.suptitle("log10 of the norm of dLoss/dh, by layer and time step")
        for axes, look in zip(upper.subplots(1, len(looks), squeeze=False)[0], looks, strict=True):
            shown = np.ma.masked_invalid(maps[look][:, ::-1])
            right = 0.5 - shown.shape[1]
            image = axes.imshow(shown, origin="lower", aspect="auto", cmap=colours, vmin=low, vmax=high,
                                interpolation="nearest", extent=(right, 0.5, -0.5, len(rows) - 0.5))  # fmt: skip
            axes.set(title=f"step {self.record.steps[look]}", xlabel="steps from the last")
            axes.set_yticks(range(len(rows)), rows if look == looks[0] else [""] * len(rows))
        upper.colorbar(image, ax=upper.axes)
        parts = list(norms_of(self.scene, dict(self.scene.model.named_parameters())))
        titles = ("gradient norm", "weight norm", "update / weight")
        for axes, name, title in zip(
            lower.subplots(1, 3, squeeze=False)[0], ("gradient", "weight", "update"), titles, strict=True
        ):
            values = self.record.stacked(name)
            for place, colour in enumerate(shades(len(parts))):
                axes.plot(self.record.steps, values[:, place], ".-", lw=1, color=colour, label=parts[place])
            axes.set(title=title, xlabel="step")
            if (values > 0).any():
                axes.set_yscale("log")
            axes.grid(alpha=0.3)
        lower.legend(*axes.get_legend_handles_labels(), loc="outside right upper", fontsize=7)
        return figure


def measure(scene: Scene) -> tuple[Tensor, dict[str, float]]:
    """Norms of dLoss/dh [directions of layers, T] on the probe batch, and of each part's dLoss/dW, by one backward."""
    batch = scene.probe_batch()
    ways = directions(scene.stacks)
    weights = dict(scene.model.named_parameters())
    with scene.still("loop"), trainable(list(weights.values())), torch.enable_grad():
        x, lengths = scene.read(batch)
        with watched(ways) as states:
            loss = scene.task.step(scene.model, batch, None).loss
        wanted = [state for of_way in states for state in of_way]
        gradients = torch.autograd.grad(loss, [*wanted, *weights.values()], allow_unused=True)
    # Where nothing reads a state or a weight there is no gradient.
    found = [
        torch.zeros_like(of) if g is None else g for g, of in zip(gradients, [*wanted, *weights.values()], strict=True)
    ]
    rows = []
    for place, way in enumerate(ways):
        of_way_TBH = torch.stack(found[place * len(x) : (place + 1) * len(x)]).cpu()
        norms_TB = of_way_TBH.double().norm(dim=-1)  # in float32 the squares of what has all but vanished would be zero
        rows.append(by_distance(norms_TB, lengths.cpu(), way.turned).norm(dim=1))
    return torch.stack(rows), norms_of(scene, dict(zip(weights, found[len(wanted) :], strict=True)))


@contextmanager
def trainable(weights: list[Tensor]) -> Iterator[None]:
    """Let gradients reach all weights, also those that are frozen for now, while the block runs."""
    frozen = [weight for weight in weights if not weight.requires_grad]
    for weight in frozen:
        weight.requires_grad_(True)
    try:
        yield
    finally:
        for weight in frozen:
            weight.requires_grad_(False)


def by_distance(norms_TB: Tensor, lengths: Tensor, turned: bool) -> Tensor:
    """[T, B] in the order in which a direction took its steps -> by steps before its last valid one, zero past them."""
    if not turned:
        return from_the_end(norms_TB, lengths)
    steps = torch.arange(len(norms_TB), device=lengths.device)[:, None]
    return norms_TB.flip(0) * (steps < lengths)  # it ends at the first step, and has been through the padding before


@contextmanager
def watched(ways: list[Direction]) -> Iterator[list[list[Tensor]]]:
    """Collect h after every step of every direction, in the order in which they are taken, while the block runs."""
    states: list[list[Tensor]] = [[] for _ in ways]

    def watch(way: Direction, kept: list[Tensor]) -> None:
        step = way.cell.step

        def watching(*arguments: Any) -> Any:
            new = step(*arguments)
            kept.append(new[0])
            return new

        way.cell.step = watching

    try:
        for way, kept in zip(ways, states, strict=True):
            watch(way, kept)
        yield states
    finally:
        for way in ways:
            way.cell.__dict__.pop("step", None)


def directions(stacks: list[DeepRNN]) -> list[Direction]:
    """Every direction of every layer, from the lowest layer to the highest."""
    found = []
    for number in range(stacks[0].num_layers):
        cells = [cell for stack in stacks for cell in stack.layers[number].cells]
        arrows = [""] if len(cells) == 1 else [" →", " ←"]
        for arrow, cell in zip(arrows, cells, strict=True):
            # A stack that runs backwards as a whole is handed the turned sequence and visits that from its first step.
            found.append(Direction(f"layer_{number}{arrow}", cell, arrow == " ←" and len(stacks) == 1))
    return found


def part_of(name: str, rnn_name: str) -> str:
    """The part of the model that a parameter belongs to: embedding, a layer (with its link and norm), or the head."""
    if not name.startswith(f"{rnn_name}."):
        return "embedding" if name.startswith("embedding") else "head"
    return f"layer_{next(word for word in name.split('.') if word.isdigit())}"


def norms_of(scene: Scene, values: dict[str, Tensor]) -> dict[str, float]:
    """The norm of each part's tensors taken together, from the input to the output."""
    squares: dict[str, Any] = dict.fromkeys(["embedding", *scene.layer_names, "head"])
    for name, value in values.items():
        part = part_of(name, scene.rnn_name)
        squares[part] = (squares[part] or 0.0) + value.detach().float().square().sum()
    return {part: float(square) ** 0.5 for part, square in squares.items() if square is not None}


def span(values: np.ndarray) -> tuple[float, float]:
    """The range of colours: at most twelve decades below the largest value."""
    high = float(values.max()) if values.size else 0.0
    return max(float(values.min()) if values.size else -1.0, high - 12), high
