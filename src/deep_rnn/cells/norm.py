"""Layer norm of a cell's products (Ba, Kiros & Hinton, "Layer normalization", 2016)."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class GateNorm(nn.Module):
    """``gain * (x - mean) / std`` over the features of [..., G*H]; the bias is the product's own, added after it.

    Args:
        hidden_size: H, features of one gate.
        groups: how many gates share a mean and a standard deviation, in stacking order: (4,) normalises all four of an
            LSTM together, (2, 1) the GRU's r and z together and its candidate alone, as the paper has them.
    """

    def __init__(self, hidden_size: int, groups: tuple[int, ...], **factory: Any) -> None:
        super().__init__()
        self.sizes = [gates * hidden_size for gates in groups]
        self.weight = nn.Parameter(torch.ones(sum(self.sizes), **factory))

    def forward(self, x: Tensor, rows: slice = slice(None)) -> Tensor:
        """Normalise all gates, or the one group of them that ``rows`` cuts out."""
        sizes = self.sizes if x.shape[-1] == sum(self.sizes) else [x.shape[-1]]
        parts = [F.layer_norm(part, part.shape[-1:]) for part in x.split(sizes, -1)]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, -1)) * self.weight[rows]
