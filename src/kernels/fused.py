"""The fused CPU kernels as functions of tensors: a whole stack of recurrent layers over whole sequences in one call.

The operator ``deep_rnn::unroll`` (src/kernels/csrc) brings its own autograd; the rules that torch.compile and vmap need
are here. K is an optional leading group dimension: K stacks with weights and batches of their own, run as one call.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from src.kernels import build

CELLS = ("rnn_tanh", "rnn_relu", "lstm", "gru")  # by the names of csrc/registry_impl.h


def why_not() -> str | None:
    """None when the kernels are compiled and loaded (compiling them if need be), else the reason."""
    return _load()


# torch.compile takes the answer as it is and does not trace how it was found; this is what the decorator
# torch.compiler.assume_constant_result sets, without the second that importing the compiler costs.
why_not._dynamo_marked_constant = True  # type: ignore[attr-defined]


@functools.cache
def _load() -> str | None:
    reason = build.load()
    if reason is None:
        torch.library.register_fake("deep_rnn::unroll", fake_unroll)
        torch.library.register_fake("deep_rnn::unroll_backward", fake_backward)
        torch.library.register_vmap("deep_rnn::unroll", vmap_rule("unroll", weights_at=3))
        torch.library.register_vmap("deep_rnn::unroll_backward", vmap_rule("unroll_backward", weights_at=4))
    return reason


def unroll(
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    cell: str,
    reverse: Sequence[bool] = (False,),
    lengths: Tensor | None = None,
    masks: Sequence[Tensor] = (),
) -> tuple[Tensor, list[Tensor]]:
    """Run a stack of layers; a layer's directions are concatenated and fed to the next layer.

    Args:
        x: [T, B, I], any strides; float32 or float64, and so all others.
        states: [B, H] each: for every layer, direction and field of the state (LSTM: h, c).
        weights: for every layer and direction w_ih [G*H, I], w_hh [G*H, H] and (all or none) b_ih, b_hh [G*H].
        cell: one of ``CELLS``, gate order as torch.nn has it.
        reverse: per direction, whether it runs from the end: (False,), (True,) or (False, True).
        lengths: [B] int64 valid steps of each column; None: all T.
        masks: [B, H] for every layer and direction, times h before the recurrent product (recurrent dropout).

    Returns:
        The last layer's output [T, B, D*H], zero past each column's length, and the states after its last step.

    Raises:
        RuntimeError: for shapes, dtypes or lengths that do not fit together.
    """
    lists = list(states), list(weights), list(masks)
    results = torch.ops.deep_rnn.unroll(x, lengths, *lists, cell, list(reverse), False)
    return results[0], results[1 : 1 + len(states)]


def fake_unroll(
    x: Tensor,
    lengths: Tensor | None,
    initial: list[Tensor],
    weights: list[Tensor],
    masks: list[Tensor],
    cell: str,
    reverse: list[bool],
    save: bool,
) -> list[Tensor]:
    """The shapes that ``deep_rnn::unroll`` returns."""
    directions, blocks = len(reverse), torch.ops.deep_rnn.saved_blocks(cell)
    hidden = [state.shape[-1] for state in initial[:: torch.ops.deep_rnn.states(cell)]]  # per layer and direction
    outputs = [x.new_empty(*x.shape[:-1], directions * size) for size in hidden[::directions]]
    results = [outputs[-1], *(state.new_empty(state.shape) for state in initial)]
    if save:
        *group, steps, batch, _ = x.shape
        results += [x.new_empty(*group, steps * batch, blocks * size) for size in hidden]
        results += outputs[:-1]
    return results


def fake_backward(
    grad_output: Tensor,
    grad_final: list[Tensor],
    x: Tensor,
    lengths: Tensor | None,
    weights: list[Tensor],
    masks: list[Tensor],
    saved: list[Tensor],
    cell: str,
    reverse: list[bool],
    wants_x: bool,
    wants_states: bool,
    wants_weights: bool,
) -> list[Tensor]:
    """The shapes that ``deep_rnn::unroll_backward`` returns."""
    wanted = [x] * wants_x + grad_final * wants_states + weights * wants_weights
    return [tensor.new_empty(tensor.shape) for tensor in wanted]


def vmap_rule(operator: str, weights_at: int) -> Callable[..., Any]:
    """vmap's rule for an operator: the mapped dimension becomes the group dimension, or joins the one there is.

    The group dimension is told by the weights, argument number ``weights_at``.
    """

    def rule(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
        first_dim = in_dims[weights_at][0] if in_dims[weights_at] else None
        grouped = args[weights_at][0].dim() - (first_dim is not None) == 3

        def to_front(value: Any, dim: Any) -> Any:
            if isinstance(value, list | tuple):
                dims = dim if isinstance(dim, list | tuple) else [dim] * len(value)
                return [to_front(v, d) for v, d in zip(value, dims, strict=True)]
            if not isinstance(value, Tensor):
                return value
            value = value.expand(info.batch_size, *value.shape) if dim is None else value.movedim(dim, 0)
            return value.flatten(0, 1) if grouped else value

        moved = [to_front(value, dim) for value, dim in zip(args, in_dims, strict=True)]
        results = getattr(torch.ops.deep_rnn, operator)(*moved)
        if grouped:
            results = [result.unflatten(0, (info.batch_size, -1)) for result in results]
        return results, [0] * len(results)

    return rule
