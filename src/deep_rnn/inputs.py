"""What a stack is called with: checks of x and lengths, each answered in one line."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from deep_rnn.kernels.tracing import in_graph, is_shape_only, under_vmap


def checked_flag(name: str, value: Any) -> bool:
    """True or False, also as 0 or 1 or numpy's.

    Raises:
        ValueError: for anything else; the word "False" would count as true.
    """
    if isinstance(value, str) or value not in (False, True):
        raise ValueError(f"{name} is True or False, not {value!r}")
    return bool(value)


def checked_input(x: Tensor, input_size: int, batch_first: bool, dtype: torch.dtype) -> Tensor:
    """x [T, B, I] itself, after a look at its shape and dtype.

    Args:
        batch_first: how the caller knows it, for the message.
        dtype: of the weights, which x must have too, unless autocast is on: then x is of any floating dtype.
    Raises:
        ValueError: for any other shape or dtype.
    """
    checked_dtype(x, dtype)
    if x.dim() != 3 or x.shape[-1] != input_size:
        layout = "[batch, time, input_size]" if batch_first else "[time, batch, input_size]"
        found = list((x.transpose(0, 1) if batch_first and x.dim() > 1 else x).shape)
        raise ValueError(f"x must be {layout} with input_size={input_size}, not {found}")
    return x


def checked_dtype(x: Tensor, dtype: torch.dtype) -> Tensor:
    """x itself, after a look at its dtype.

    Args:
        dtype: of the weights, which x must have too, unless autocast is on: then x is of any floating dtype.
    Raises:
        ValueError: for any other.
    """
    if x.dtype != dtype and not (x.is_floating_point() and torch.is_autocast_enabled(x.device.type)):
        raise ValueError(f"x must be {dtype} as the weights are, not {x.dtype}; x.to(dtype) or rnn.to(dtype) converts")
    return x


def weights_dtype(rnn: Any) -> torch.dtype:
    """The dtype of a stack's weights, without computing one that is made from others."""
    cell = rnn._modules["layers"]._modules["0"]._modules["cells"]._modules["0"]  # by attributes and indices it is 4 us
    weight = cell._parameters.get("weight_ih")
    return (cell.like if weight is None else weight).dtype


def checked_lengths(lengths: Tensor | Sequence[int] | None, x: Tensor) -> Tensor | None:
    """Lengths as int64 [B] on x's device, None where all are whole (a padded batch without padding costs no more).

    Values are looked at only where that needs no wait for a GPU.

    Raises:
        ValueError: for lengths of another shape or kind, or out of range.
    """
    if lengths is None:
        return None
    lengths = torch.as_tensor(lengths)
    if lengths.numel() and (lengths.is_floating_point() or lengths.dtype == torch.bool):
        raise ValueError(f"lengths must be whole numbers, not {lengths.dtype}")
    if lengths.shape != (x.shape[1],):
        raise ValueError(f"lengths must have shape [{x.shape[1]}], one a sequence, not {list(lengths.shape)}")
    if can_look(lengths):
        shortest, longest = (int(value) for value in lengths.aminmax())
        if not 0 <= shortest <= longest <= x.shape[0]:
            raise ValueError(f"lengths must be from 0 to {x.shape[0]}, not {shortest} to {longest}")
        if shortest == x.shape[0]:
            return None
    return lengths.to(x.device, torch.int64)


def checked_starts(starts: Any, x: Tensor, batch_first: bool = False) -> Tensor:
    """Starts as bool [T, B] on x's device, from the layout that the caller knows x [T, B, I] in.

    Raises:
        ValueError: for another dtype or shape.
    """
    starts = torch.as_tensor(starts, device=x.device)
    if x.dim() != 3:
        return starts  # x is refused next
    shape = [x.shape[1], x.shape[0]] if batch_first else [x.shape[0], x.shape[1]]
    if starts.dtype != torch.bool or list(starts.shape) != shape:
        layout = "[batch, time]" if batch_first else "[time, batch]"
        raise ValueError(f"starts must be bool {layout} = {shape}, not {starts.dtype} {list(starts.shape)}")
    return starts.transpose(0, 1) if batch_first else starts


def can_look(values: Tensor) -> bool:
    """Whether there are values that can be read without waiting for a GPU or breaking a graph or a mapped function."""
    on_host = values.device.type == "cpu" and values.numel() > 0
    return on_host and not in_graph() and not under_vmap() and not is_shape_only(values)
