"""From gradients to an update: norm, clipping, and no update at all where something is not finite."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from deep_rnn import Cell
from src.training.optim import step_unless


class Update(NamedTuple):
    """What one update knows of itself, still on the device: nobody has waited for it yet."""

    step: int
    loss: Tensor
    """Mean over the update's elements, before scaling."""
    norm: Tensor
    """Norm of all gradients, before clipping."""
    norms_P: Tensor
    """Norm of each parameter's gradient."""
    elements: int
    """Elements the loss is the mean of."""
    tokens: int
    """Valid time steps that went in."""
    lr: float


class Updater:
    """Turn the gradients that lie in ``.grad`` into one update of the weights, without the host waiting for the device.

    Args:
        model: whose gradients they are.
        optimizer: made by `build_optimizer`.
        scaler: has scaled the loss; switched off, it does nothing.
        clip: largest norm of all gradients together, or largest value of any; None for no clipping.
        clip_by: ``norm`` or ``value``.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, scaler: GradScaler, clip: float | None, clip_by: str
    ) -> None:
        self.named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        self.bounded = [
            cell for cell in model.modules() if isinstance(cell, Cell) and type(cell).constrain is not Cell.constrain
        ]
        self.optimizer, self.scaler = optimizer, scaler
        self.clip, self.clip_by = clip, clip_by

    def __call__(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        """Unscale, clip, step unless loss or gradients are not finite, and forget the gradients.

        Returns:
            The norm of all gradients and [P] the norm of each, before clipping.
        """
        self.scaler.unscale_(self.optimizer)
        gradients = [parameter.grad for _, parameter in self.named if parameter.grad is not None]
        norms_P = torch.stack(torch._foreach_norm(gradients)) if gradients else loss.new_zeros(0)
        norm = torch.linalg.vector_norm(norms_P)
        self._clip(gradients, norm)
        # A norm is finite only if every gradient is (and if their squares do not overflow, which is as hopeless).
        # GradScaler.step would ask the host about its own overflow flag; this one covers it.
        step_unless(self.optimizer, ~torch.isfinite(norm + loss))
        with torch.no_grad():
            for cell in self.bounded:
                cell.constrain()
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return norm, norms_P

    def _clip(self, gradients: list[Tensor], norm: Tensor) -> None:
        if self.clip is None:
            return
        if self.clip_by == "norm":  # as torch.nn.utils.clip_grad_norm_, which finds the norm once more
            torch._foreach_mul_(gradients, (self.clip / (norm + 1e-6)).clamp(max=1.0))
        else:
            torch._foreach_clamp_max_(gradients, self.clip)
            torch._foreach_clamp_min_(gradients, -self.clip)

    def blame(self, norms_P: Tensor) -> list[str]:
        """Name the parameters whose gradients are not finite."""
        names = [name for name, _ in self.named]
        if len(names) != len(norms_P):  # some had no gradient in that step
            return []
        return [name for name, finite in zip(names, norms_P.isfinite().tolist(), strict=True) if not finite]
