"""What each layer has learnt: how well a linear map reads the answer off its states (Alain & Bengio 2016)."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deep_rnn.kernels.sequence import last_valid, valid_steps
from src.diagnostics.base import Diagnostic, Scene, shades

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Probe(Diagnostic):
    """Fits a probe on each layer's states of training examples and judges it on validation, at every evaluation.

    The states of a sequence are its last one and the mean over its valid steps; where every step has a target, each
    step's own. ``input`` reads what the lowest layer reads. The probe is ridge regression, to one-hot targets where
    they are classes.

    Metrics: ``probe/input``, ``probe/layer_0``, …: validation accuracy, or R² where targets are numbers.
    """

    name = "probe"

    def __init__(self, options: Any, scene: Scene, folder: Path) -> None:
        super().__init__(options, scene, folder)
        self.rows = ["input", *scene.layer_names]

    def due(self, step: int) -> bool:
        """Never at an update."""
        return False

    def at_evaluation(self, step: int) -> dict[str, float]:
        """Fit and judge."""
        with self.scene.still(), torch.no_grad():
            (train, told), (val, asked) = (gather(self.scene, name, self.options.examples) for name in ("train", "val"))
        pairs = zip(train, val, strict=True)
        scores = [judge(ridge(rows, told, self.options.ridge), held, asked) for rows, held in pairs]
        self.record.add(step, scores=np.array(scores))
        return {f"probe/{row}": score for row, score in zip(self.rows, scores, strict=True)}

    def figure(self) -> "Figure":
        """The scores over the steps, a curve a layer."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6.4, 3.6), layout="constrained")
        axes = figure.subplots()
        scores = self.record.stacked("scores")
        for place, colour in enumerate(["#888888", *shades(len(self.rows) - 1)]):
            axes.plot(self.record.steps, scores[:, place], ".-", lw=1.2, color=colour, label=self.rows[place])
        axes.set(
            title="what a linear probe reads off each layer", xlabel="step", ylabel="validation score of the probe"
        )
        axes.grid(alpha=0.3)
        figure.legend(loc="outside right upper", fontsize=7)
        return figure


def gather(scene: Scene, split: str, examples: int) -> tuple[list[Tensor], Tensor]:
    """Features [N, *] of the input and of each layer, and targets [N] or [N, O], of some examples of a split; without
    those whose class is not known."""
    features: list[list[Tensor]] = [[] for _ in range(scene.rnn.num_layers + 1)]
    targets: list[Tensor] = []
    for batch in islice(batches(scene, split), max(1, examples // scene.cfg.batch_size)):
        x, lengths = scene.read(batch)
        layers, _ = scene.rnn.layer_outputs(x, lengths=lengths)
        valid_TB = valid_steps(lengths, len(x))
        if batch.targets.dim() == (3 if batch.targets.is_floating_point() else 2):  # every step has one
            # Sequence by sequence: the first so many rows shall not all be of the first steps.
            found = [states.transpose(0, 1)[valid_TB.T] for states in (x, *layers)]
            wanted = batch.targets.transpose(0, 1)[valid_TB.T]
        else:
            found, wanted = [summary_of(states, lengths, valid_TB) for states in (x, *layers)], batch.targets
        known = torch.ones_like(wanted, dtype=torch.bool) if wanted.is_floating_point() else wanted >= 0
        known = known if known.dim() == 1 else known[:, 0]
        for kept, rows in zip(features, found, strict=True):
            kept.append(rows[known].double().cpu())
        targets.append(wanted[known].cpu())
        if sum(map(len, targets)) >= examples:
            break
    return [torch.cat(kept)[:examples] for kept in features], torch.cat(targets)[:examples]


def summary_of(states: Tensor, lengths: Tensor, valid_TB: Tensor) -> Tensor:
    """[B, 2 * F] the last valid state of each sequence, and the mean over its valid steps."""
    mean = (states * valid_TB[..., None]).sum(0) / lengths.clamp(min=1)[:, None]
    return torch.cat((last_valid(states, lengths, states.new_zeros(states.shape[1:])), mean), -1)


def batches(scene: Scene, split: str) -> Iterator[Any]:
    """Batches of a split on the device."""
    return (batch.to(scene.device) for batch in scene.loader(split).epoch(0))


def ridge(features: Tensor, targets: Tensor, penalty: float) -> Any:
    """Fit targets [N] (classes) or [N, O] by features [N, D]: argmin |X W + b - Y|² + N ``penalty`` |W|², X scaled to
    variance 1; a function from features to answers [N, O]."""
    wanted = targets.double() if targets.is_floating_point() else F.one_hot(targets).double()
    wanted = wanted[:, None] if wanted.dim() == 1 else wanted
    middle, scale = features.mean(0), features.std(0, correction=0).clamp(min=1e-8)
    x, offset = (features - middle) / scale, wanted.mean(0)
    gram = x.T @ x + len(x) * penalty * torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(gram, x.T @ (wanted - offset))
    return lambda new: (new - middle) / scale @ weights + offset


def judge(answer: Any, features: Tensor, targets: Tensor) -> float:
    """Accuracy, or R² where targets are numbers."""
    answers = answer(features)
    if not targets.is_floating_point():
        return float((answers.argmax(1) == targets).double().mean())
    wanted = targets.double().reshape(len(targets), -1)
    rest, total = (answers - wanted).square().sum(), (wanted - wanted.mean(0)).square().sum()
    return float(1 - rest / total.clamp(min=1e-12))
