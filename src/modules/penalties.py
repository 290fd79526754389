"""Penalties on what a stack puts out (Merity, McCann & Socher 2017, "Revisiting activation regularization")."""

from torch import Tensor

from deep_rnn.kernels.sequence import valid_steps


def activation_penalty(output: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Mean square of the valid outputs [T, B, F]: keeps them small. Times alpha (2 in AWD-LSTM) on the loss."""
    return mean_square(output, lengths)


def temporal_penalty(output: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Mean square of the change from step to step: keeps them slow. Times beta (1 in AWD-LSTM) on the loss."""
    return mean_square(output[1:] - output[:-1], None if lengths is None else (lengths - 1).clamp(min=0))


def mean_square(values: Tensor, lengths: Tensor | None) -> Tensor:
    """Mean of the squares over valid steps; 0 where there are none."""
    squares = values.float().square().mean(-1)
    if lengths is None:
        return squares.mean() if squares.numel() else squares.sum()
    valid = valid_steps(lengths, len(values))
    return squares.where(valid, 0).sum() / valid.sum().clamp(min=1)
