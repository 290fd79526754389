"""What the tests of the fused operator give to it and to torch.nn."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from deep_rnn.kernels import fused

LAYERS: dict[str, Callable[..., nn.RNNBase]] = {
    "rnn_tanh": nn.RNN,
    "rnn_relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
    "lstm": nn.LSTM,
    "gru": nn.GRU,
}
TOLERANCES = {torch.float64: 1e-13, torch.float32: 5e-6}  # of the largest element: some thousands of roundings


class Problem:
    """A stack with torch.nn's weights, an input, states, and the gradients of its results."""

    def __init__(
        self,
        cell: str,
        sizes: tuple[int, int, int, int, int],
        reverse: tuple[bool, ...],
        dtype: torch.dtype = torch.float64,
        bias: bool = True,
    ) -> None:
        T, B, width, H, L = sizes
        torch.manual_seed(T * B + H)
        self.cell, self.reverse, self.T, D = cell, reverse, T, len(reverse)
        self.theirs = LAYERS[cell](width, H, L, bidirectional=D == 2, bias=bias).to(dtype)
        self.weights = list(self.theirs.parameters())
        self.x = torch.randn(T, B, width, dtype=dtype, requires_grad=True)
        count = 2 if cell == "lstm" else 1
        self.states = [torch.randn(B, H, dtype=dtype, requires_grad=True) for _ in range(L * D * count)]
        self.grads = [torch.randn(T, B, D * H, dtype=dtype), *(torch.randn(B, H, dtype=dtype) for _ in self.states)]

    def fused(self, **options: object) -> list[Tensor]:
        names = fused.TORCH_NAMES[: len(self.theirs.all_weights[0])]
        output, states = fused.unroll(
            self.x,
            self.states,
            self.weights,
            self.cell,
            self.reverse,
            names=names,
            **options,  # type: ignore[arg-type]
        )
        return [output, *states]

    def torch_nn(self, lengths: Tensor | None = None) -> list[Tensor]:
        count = 2 if self.cell == "lstm" else 1
        before = tuple(torch.stack(self.states[i::count]) for i in range(count))
        x = self.x if lengths is None else pack_padded_sequence(self.x, lengths, enforce_sorted=False)
        output, after = self.theirs(x, before if count == 2 else before[0])
        if lengths is not None:
            output, _ = pad_packed_sequence(output, total_length=self.T)
        fields = after if count == 2 else (after,)
        return [output, *(state for pair in zip(*fields, strict=True) for state in pair)]

    def gradients(self, results: list[Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(results, [self.x, *self.states, *self.weights], self.grads)


def assert_close(ours: Iterable[Tensor], expected: Iterable[Tensor]) -> None:
    for a, b in zip(ours, expected, strict=True):
        size = 1 + b.abs().max().item() if b.numel() else 1
        torch.testing.assert_close(a, b, rtol=0, atol=TOLERANCES[b.dtype] * size)
