"""The mix of a highway link as one fused operator: product, gate and mix in one sweep, and so their gradients."""

from typing import Any

import torch
from torch import Tensor

from deep_rnn.kernels.fused import can_fuse


def mix(carried: Tensor, out: Tensor, below: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``t * out + (1 - t) * carried`` with ``t = sigmoid(W below + b)``.

    Args:
        carried: [..., O]; ``below`` itself, or its projection to the layer's width.
        out: [..., O], what the layer computed.
        below: [..., I], what entered it.
        weight: W [O, I].
        bias: b [O].
    Returns:
        [..., O], in the dtype of ``out``.
    """
    tensors = carried, out, below, weight, bias
    return Mix.apply(*tensors) if can_fuse(*tensors) else formula(*tensors)


def formula(carried: Tensor, out: Tensor, below: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``mix`` in torch's own operators, which run anywhere and differentiate any number of times."""
    return gated(carried, out, torch.nn.functional.linear(below, weight, bias))


def gated(carried: Tensor, out: Tensor, gate: Tensor) -> Tensor:
    """``mix`` of what the gate's linear layer gave, [..., O]."""
    return torch.lerp(carried.to(out.dtype), out, torch.sigmoid(gate).to(out.dtype))


class Mix(torch.autograd.Function):
    """The fused operator with its gradients; second derivatives are those of ``formula``."""

    @staticmethod
    def forward(ctx: Any, *tensors: Tensor) -> Tensor:
        """See ``mix``."""
        carried, out, below, weight, bias = (tensor.contiguous() for tensor in tensors)
        mixed, gate = torch.ops.deep_rnn.highway(carried, out, below, weight, bias)
        ctx.save_for_backward(*tensors, gate)
        return mixed

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Gradients of all arguments of ``mix``."""
        *tensors, gate = ctx.saved_tensors
        if torch.is_grad_enabled():  # they are to be differentiated again
            views = [tensor.view_as(tensor) for tensor in tensors]  # `carried` and `below` may be one tensor
            wanted = [view for view in views if view.requires_grad]
            found = iter(torch.autograd.grad(formula(*views), wanted, grad, create_graph=True))
            return tuple(next(found) if view.requires_grad else None for view in views)
        carried, out, below, weight, _ = (tensor.contiguous() for tensor in tensors)
        wants_below = ctx.needs_input_grad[2]
        d_carried, d_out, d_below, d_weight, d_bias = torch.ops.deep_rnn.highway_backward(
            grad, carried, out, below, weight, gate, wants_below
        )
        return d_carried, d_out, d_below if wants_below else None, d_weight, d_bias
