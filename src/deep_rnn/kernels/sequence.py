"""Index arithmetic on padded batches [T, B, *]: which steps are valid, where they are read, how they are reversed."""

import torch
from torch import Tensor


def valid_steps(lengths: Tensor, time: int) -> Tensor:
    """Which steps hold data: [B] lengths -> bool [T, B]."""
    return torch.arange(time, device=lengths.device)[:, None] < lengths


def begin_anew(starts: Tensor, lengths: Tensor | None, backward: bool) -> Tensor:
    """Before which steps a direction's state begins anew, [T, B]; ``starts`` says it of the forward direction.

    The backward direction comes into an episode by its last step; what is given before the call's last step holds.
    """
    inside = starts if lengths is None else starts & valid_steps(lengths, starts.shape[0])
    return torch.cat((inside[1:], torch.zeros_like(inside[:1]))) if backward else inside


def turned_starts(starts: Tensor | None, lengths: Tensor | None) -> Tensor | None:
    """Before which steps of the sequences turned round the backward direction begins anew, [T, B]."""
    if starts is None:
        return None
    return reverse_valid(begin_anew(starts, lengths, backward=True)[..., None], lengths)[..., 0]


def reverse_valid(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Reverse the valid part of every column of x [T, B, *] and leave its padding where it is (its own inverse)."""
    if lengths is None:
        return x.flip(0)
    steps = torch.arange(x.shape[0], device=x.device)[:, None]
    source = torch.where(steps < lengths, lengths - 1 - steps, steps)
    return x.gather(0, source[..., None].expand_as(x))


def last_valid(x: Tensor, lengths: Tensor, otherwise: Tensor) -> Tensor:
    """The last valid step of every column of x [T, B, F] -> [B, F]; ``otherwise`` [B, F] where the length is 0."""
    if x.shape[0] == 0:
        return otherwise
    index = (lengths - 1).clamp(min=0)[None, :, None].expand(1, -1, x.shape[-1])
    return torch.where((lengths > 0)[:, None], x.gather(0, index)[0], otherwise)


def mask_padding(x: Tensor, lengths: Tensor | None) -> Tensor:
    """x [T, B, F] with its padded steps set to zero, so that nothing there (not even nan) reaches a result."""
    return x if lengths is None else x.masked_fill(~valid_steps(lengths, x.shape[0])[..., None], 0)
