"""How far back a layer remembers: |dh_T^l / dx_t|, the norm of the Jacobian of its last state by each input step."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from deep_rnn.kernels.sequence import last_valid
from src.diagnostics.base import Diagnostic, Scene, from_the_end, shades

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_PANELS = 4


class Memory(Diagnostic):
    """Measures on one batch in evaluation mode, before each update that it looks at.

    Metrics: ``memory/layer_0``, …: the mean number of steps back from the last, each step weighted by how much the
    layer's last state depends on it. The record holds ``norms`` [looks, L, T], counted back from the last step.
    """

    name = "memory"

    def before_update(self, step: int) -> None:
        """Measure."""
        self.norms = measure(self.scene)

    def after_update(self, step: int) -> dict[str, float]:
        """Record what was measured."""
        self.record.add(step, norms=self.norms)
        steps = np.arange(self.norms.shape[1])
        totals = self.norms.sum(1)
        reach = np.divide(self.norms @ steps, totals, out=np.zeros_like(totals), where=totals > 0)
        return {f"memory/{name}": float(value) for name, value in zip(self.scene.layer_names, reach, strict=True)}

    def figure(self) -> "Figure":
        """A panel for some of the looks, a curve for each layer."""
        from matplotlib.figure import Figure

        looks = sorted({round(place) for place in np.linspace(0, len(self.record) - 1, MOST_PANELS)})
        figure = Figure(figsize=(3.4 * len(looks) + 1.2, 3.4), layout="constrained")
        figure.suptitle("how much each layer's last state depends on the input so many steps earlier")
        norms, names = self.record.stacked("norms"), self.scene.layer_names
        for axes, look in zip(figure.subplots(1, len(looks), squeeze=False, sharey=True)[0], looks, strict=True):
            for layer, colour in enumerate(shades(len(names))):
                positive = np.where(norms[look, layer] > 0, norms[look, layer], np.nan)
                axes.plot(-np.arange(norms.shape[2]), positive, lw=1.2, color=colour, label=names[layer])
            axes.set(title=f"step {self.record.steps[look]}", xlabel="steps from the last", yscale="log")
            axes.grid(alpha=0.3)
        figure.axes[0].set_ylabel("|dh / dx|")
        figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize=7)
        return figure


def measure(scene: Scene) -> np.ndarray:
    """[L, T] root mean square over the batch of |dh_T^l / dx_t| (Frobenius), by steps t before the last one, T.

    For a random v of independent signs E |d(v·h)/dx|² is the squared Frobenius norm: one backward a layer estimates it,
    and the batch averages.
    """
    batch = scene.probe_batch()
    rows = []
    with scene.still():
        x, lengths = scene.read(batch)
        with torch.enable_grad():
            x.requires_grad_()
            layers, _ = scene.rnn.layer_outputs(x, lengths=lengths)
            generator = torch.Generator().manual_seed(0)
            for output in layers:
                last = last_valid(output, lengths, output.new_zeros(output.shape[1:]))
                direction = (2 * torch.randint(0, 2, last.shape, generator=generator) - 1).to(last)
                (gradient,) = torch.autograd.grad((last * direction).sum(), x, retain_graph=True)
                squares = from_the_end(gradient.cpu().double().square().sum(-1), lengths.cpu())
                there = (torch.arange(len(x))[:, None] < lengths.cpu()).sum(1)
                rows.append((squares.sum(1) / there.clamp(min=1)).sqrt())
    return torch.stack(rows).numpy()
