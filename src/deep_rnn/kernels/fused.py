"""The fused CPU kernels as functions of tensors: a whole stack of recurrent layers over whole sequences in one call.

The operator ``deep_rnn::unroll`` (``csrc``) brings its own autograd; the rules that torch.compile and vmap need are
here. K is an optional leading group dimension: K stacks with weights and batches of their own, run as one call.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from deep_rnn.kernels import build, flops, twice
from deep_rnn.kernels.tracing import in_graph, transformed

TORCH_NAMES = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # of the weights of torch.nn's cells


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
        torch.library.register_fake("deep_rnn::highway", fake_highway)
        torch.library.register_fake("deep_rnn::highway_backward", fake_highway_backward)
        torch.library.register_fake("deep_rnn::linear_cross_entropy", fake_linear_cross_entropy)
        torch.library.register_vmap("deep_rnn::unroll", vmap_rule("unroll", weights_at=3))
        torch.library.register_vmap("deep_rnn::unroll_backward", vmap_rule("unroll_backward", weights_at=5))
        torch.library.impl("deep_rnn::unroll_twice", "CompositeImplicitAutograd", twice.unroll_twice)
        flops.register()
    return reason


def fake_highway(carried: Tensor, out: Tensor, below: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Shapes of ``highway``'s results."""
    return torch.empty_like(out), torch.empty_like(out)


def fake_highway_backward(
    grad: Tensor, carried: Tensor, out: Tensor, below: Tensor, weight: Tensor, gate: Tensor, wants_below: bool
) -> tuple[Tensor, ...]:
    """Shapes of ``highway_backward``'s results."""
    to_below = below.new_empty(below.shape if wants_below else 0)
    like = [torch.empty_like(one) for one in (out, out, weight)]
    return like[0], like[1], to_below, like[2], weight.new_empty(len(weight))


def fake_linear_cross_entropy(
    hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, wants_hidden: bool, wants_weight: bool
) -> tuple[Tensor, ...]:
    """Shapes of ``linear_cross_entropy``'s results."""
    shapes = (hidden.shape if wants_hidden else (0,), *(w.shape if wants_weight else (0,) for w in (weight, bias)))
    return hidden.new_empty(()), *(hidden.new_empty(shape) for shape in shapes)


def can_fuse(*tensors: Tensor) -> bool:
    """Whether a fused operator that is no layer can take these tensors: plain ones of float32 or float64 on a CPU."""
    if in_graph() or transformed() or forward_ad._current_level >= 0 or torch.is_autocast_enabled("cpu"):
        return False
    dtypes = {tensor.dtype for tensor in tensors}
    plain = dtypes in ({torch.float32}, {torch.float64}) and all(tensor.device.type == "cpu" for tensor in tensors)
    return plain and why_not() is None


def unroll(
    x: Tensor,
    states: Sequence[Tensor],
    weights: Sequence[Tensor],
    cell: str,
    reverse: Sequence[bool] = (False,),
    lengths: Tensor | None = None,
    masks: Sequence[Tensor] = (),
    *,
    names: Sequence[str] = TORCH_NAMES,
    drops: Sequence[Tensor] = (),
    zones: Sequence[Tensor] = (),
    zoneout: Sequence[float] = (),
    between: Sequence[Tensor] = (),
    constants: Sequence[float] = (),
    cells: Sequence[Any] = (),
) -> tuple[Tensor, list[Tensor]]:
    """Run a stack of layers; a layer's directions are concatenated and fed to the next layer.

    Args:
        x: [T, B, I], any strides; float32 or float64, and so all others.
        states: [B, H] each: for every layer, direction and field of the state (LSTM: h, c).
        weights: for every layer and direction the parameters named in ``names``, of the shapes they have in the cells
            of ``deep_rnn.cells``; biases may be left out, of all cells alike.
        cell: a name of csrc/registry_impl.h, gate order as in ``deep_rnn.cells``.
        reverse: per direction, whether it runs from the end: (False,), (True,) or (False, True).
        lengths: [B] int64 valid steps of each column; None: all T.
        masks: [B, H] for every layer and direction, times h before the recurrent product (recurrent dropout).
        names: of a cell's parameters, ``weight_ih`` first; those of a further transition end in its number.
        drops: [B, H] for every layer and direction, times the candidate.
        zones: bool [T, B, H] for every layer, direction and field with zoneout: the units that keep their old value;
            none: in expectation.
        zoneout: for every field of the state the probability of keeping its old value; none: 0.
        between: [T, B, D*H] for every layer but the last, times its output (dropout between layers).
        constants: of the cell's equations, where it has any.
        cells: the cells by the contract of ``deep_rnn.cells``, one a layer and direction, whose ``step`` gives second
            derivatives; none: there are no second derivatives.

    Returns:
        The last layer's output [T, B, D*H], zero past each column's length, and the states after its last step.

    Raises:
        RuntimeError: for names, shapes, dtypes or lengths that do not fit together.
    """
    noise = list(masks), list(drops), list(zones), list(between)
    plan = cell, list(names), list(constants), list(zoneout), list(reverse), twice.keys_of(cells)
    results = torch.ops.deep_rnn.unroll.default(x, lengths, list(states), list(weights), *noise, *plan, False)
    return results[0], results[1 : 1 + len(states)]


def dropout_mask(like: Tensor, shape: Sequence[int], rate: float) -> Tensor:
    """A mask of 0 and 1/keep by the draws that ``F.dropout`` makes for a contiguous tensor of this shape."""
    if rate == 1:
        return like.new_zeros(shape)
    return like.new_empty(shape).bernoulli_(1 - rate).div_(1 - rate)


def fake_unroll(
    x: Tensor,
    lengths: Tensor | None,
    initial: list[Tensor],
    weights: list[Tensor],
    masks: list[Tensor],
    drops: list[Tensor],
    zones: list[Tensor],
    between: list[Tensor],
    cell: str,
    names: list[str],
    constants: list[float],
    zoneout: list[float],
    reverse: list[bool],
    cells: list[int],
    save: bool,
) -> list[Tensor]:
    """The shapes that ``deep_rnn::unroll`` returns."""
    directions = len(reverse)
    hidden = [state.shape[-1] for state in initial[:: torch.ops.deep_rnn.states(cell)]]  # per layer and direction
    outputs = [x.new_empty(*x.shape[:-1], directions * size) for size in hidden[::directions]]
    results = [outputs[-1], *(state.new_empty(state.shape) for state in initial)]
    if save:
        *group, steps, batch, _ = x.shape
        sizes = [torch.ops.deep_rnn.saved_size(cell, names, size) for size in hidden]
        results += [x.new_empty(*group, steps * batch, size) for size in sizes]
        results += outputs[:-1]
    return results


def fake_backward(
    grad_output: Tensor,
    grad_final: list[Tensor],
    x: Tensor,
    lengths: Tensor | None,
    initial: list[Tensor],
    weights: list[Tensor],
    masks: list[Tensor],
    drops: list[Tensor],
    zones: list[Tensor],
    between: list[Tensor],
    saved: list[Tensor],
    cell: str,
    names: list[str],
    constants: list[float],
    zoneout: list[float],
    reverse: list[bool],
    cells: list[int],
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
