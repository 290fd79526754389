"""What each layer has learnt: how well a linear map reads the answer off its states (Alain & Bengio 2016)."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from src.diagnostics.base import Diagnostic, Scene, shades
from src.kernels.sequence import last_valid, valid_steps

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
            train, val = (gather(self.scene, split, self.options.examples) for split in ("train", "val"))
        scores = [
            judge(ridge(*fit, self.options.ridge), *held)
            for fit, held in zip(with_targets(train), with_targets(val), strict=True)
        ]
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
    """Features [N, *] of the input and of each layer, and targets [N] or [N, O], of some examples of a split."""
    features: list[list[Tensor]] = [[] for _ in range(scene.rnn.num_layers + 1)]
    targets: list[Tensor] = []
    for batch in islice(batches(scene, split), max(1, examples // scene.cfg.batch_size)):
        _, x, lengths = scene.loss(batch)
        layers, _ = scene.rnn.layer_outputs(x, lengths=lengths)
        each_step = batch.targets.dim() == (3 if batch.targets.is_floating_point() else 2)
        for kept, states in zip(features, (x, *layers), strict=True):
            if each_step:
                kept.append(states[valid_steps(lengths, len(x))].cpu())
            else:
                mean = (states * valid_steps(lengths, len(x))[..., None]).sum(0) / lengths.clamp(min=1)[:, None]
                last = last_valid(states, lengths, states.new_zeros(states.shape[1:]))
                kept.append(torch.cat((last, mean), -1).cpu())
        targets.append((batch.targets[valid_steps(lengths, len(x))] if each_step else batch.targets).cpu())
        if sum(map(len, targets)) >= examples:
            break
    return [torch.cat(kept)[:examples] for kept in features], torch.cat(targets)[:examples]


def batches(scene: Scene, split: str) -> Iterator[Any]:
    """Batches of a split on the device."""
    return (batch.to(scene.device) for batch in scene.loader(split).epoch(0))


def with_targets(gathered: tuple[list[Tensor], Tensor]) -> list[tuple[Tensor, Tensor]]:
    """The features of each layer with the targets beside, without the examples whose class is not known."""
    features, targets = gathered
    known = torch.ones(len(targets), dtype=torch.bool) if targets.is_floating_point() else targets >= 0
    return [(rows[known].double(), targets[known]) for rows in features]


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
