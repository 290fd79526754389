"""Gradients that can be taken, but not differentiated again."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def only_once(backend: str, gradients: Sequence[Tensor | None], depends_on: Sequence[Tensor]) -> list[Tensor | None]:
    """The gradients themselves; whoever differentiates them by what they depend on is told which backend cannot."""
    if not torch.is_grad_enabled():
        return list(gradients)
    there = [gradient for gradient in gradients if gradient is not None]
    handed = iter(FirstOnly.apply(backend, len(there), *there, *depends_on))
    return [None if gradient is None else next(handed) for gradient in gradients]


class FirstOnly(torch.autograd.Function):
    """Hands the first ``count`` tensors on, and refuses to go back through them to any of the others."""

    @staticmethod
    def forward(ctx: Any, backend: str, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        ctx.backend = backend
        return tuple(tensor.view_as(tensor) for tensor in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Raises RuntimeError."""
        raise RuntimeError(f"backend={ctx.backend} has no second derivative; use backend=loop")
