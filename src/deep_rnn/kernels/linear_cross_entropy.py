"""The loss of a large softmax as one fused operator: no more than some lines of its logits are ever in memory."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from deep_rnn.kernels.fused import can_fuse


def linear_cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Sum over n of ``-log softmax(W h_n + b)`` at the target of n.

    Args:
        hidden: h [N, E].
        weight: W [V, E].
        bias: b [V].
        targets: [N], int64; -1 counts for nothing.
    Returns:
        A scalar, in nats.
    """
    if not can_fuse(hidden, weight, bias):
        return formula(hidden, weight, bias, targets)
    if torch.is_grad_enabled():
        return LinearCrossEntropy.apply(hidden, weight, bias, targets)
    return fused_loss(hidden, weight, bias, targets, False, False)[0]


def formula(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """``linear_cross_entropy`` in torch's own operators, which run anywhere and differentiate any number of times."""
    return F.cross_entropy(F.linear(hidden, weight, bias), targets, ignore_index=-1, reduction="sum")


def fused_loss(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, *wanted: bool) -> tuple[Tensor, ...]:
    """The operator on tensors of any strides: the loss and those of its gradients that are wanted."""
    tensors = (tensor.contiguous() for tensor in (hidden, weight, bias, targets))
    return torch.ops.deep_rnn.linear_cross_entropy(*tensors, *wanted)


class LinearCrossEntropy(torch.autograd.Function):
    """The fused operator, which makes the gradients along with the loss; second derivatives are by ``formula``."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        """See ``linear_cross_entropy``."""
        wants_hidden, *wants_weight, _ = ctx.needs_input_grad
        loss, *grads = fused_loss(hidden, weight, bias, targets, wants_hidden, any(wants_weight))
        ctx.save_for_backward(hidden, weight, bias, targets, *grads)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Gradients of hidden, weight and bias."""
        *tensors, targets, d_hidden, d_weight, d_bias = ctx.saved_tensors
        if torch.is_grad_enabled():  # they are to be differentiated again
            hidden, weight, bias = views = [tensor.view_as(tensor) for tensor in tensors]  # one may come from another
            wanted = [view for view in views if view.requires_grad]
            loss = formula(hidden, weight, bias, targets)
            found = iter(torch.autograd.grad(loss, wanted, grad, create_graph=True))
            return *(next(found) if view.requires_grad else None for view in views), None
        made = zip(ctx.needs_input_grad, (d_hidden, d_weight, d_bias), strict=False)
        return *(grad * found if needed else None for needed, found in made), None
