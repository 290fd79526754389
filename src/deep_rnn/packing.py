"""PackedSequence in and out, by index arithmetic: one gather each way, which torch.compile takes into its graph.

torch.nn.utils.rnn's own functions cannot be traced, and copy step by step: unpacking 100 steps of 64 sequences of 128
features takes them five times as long with its gradient.
"""

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from deep_rnn.kernels.sequence import valid_steps


def unpack(packed: PackedSequence) -> tuple[Tensor, Tensor]:
    """A packed batch as x [T, B, I] and lengths [B], in the order its caller knows; what stands in the padding is
    somebody else's, not zero."""
    data, batch_sizes, sorted_indices, unsorted_indices = packed
    # The number of sequences is a value, which no graph knows, unless they were sorted: then it is a shape.
    batch = int(batch_sizes[0]) if sorted_indices is None else len(sorted_indices)
    x, lengths = padded(data, batch_sizes, batch), lengths_of(batch_sizes, batch)
    if unsorted_indices is None:
        return x, lengths
    return x.index_select(1, unsorted_indices), lengths.index_select(0, unsorted_indices.to(lengths.device))


def pack_like(output: Tensor, packed: PackedSequence) -> PackedSequence:
    """Pack output [T, B, F] in the same order and with the same batch sizes as ``packed``."""
    if packed.sorted_indices is not None:
        output = output.index_select(1, packed.sorted_indices)
    data = packed_data(output, packed.batch_sizes, len(packed.data))
    return PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)


def lengths_of(batch_sizes: Tensor, batch: int) -> Tensor:
    """Valid steps of each of the B sequences, longest first, from how many of them have each step."""
    return valid_steps(batch_sizes, batch).sum(1)


def padded(data: Tensor, batch_sizes: Tensor, batch: int) -> Tensor:
    """Packed data [N, F] as [T, B, F], longest sequence first; what stands in the padding is somebody else's."""
    before = batch_sizes.cumsum(0) - batch_sizes
    source = (before[:, None] + torch.arange(batch)).clamp(max=len(data) - 1)
    return data.index_select(0, source.flatten().to(data.device)).unflatten(0, (len(batch_sizes), batch))


def packed_data(x: Tensor, batch_sizes: Tensor, count: int) -> Tensor:
    """The inverse of ``padded``: the N valid steps of x [T, B, F] as [N, F]."""
    ends, place = batch_sizes.cumsum(0), torch.arange(count)
    step = torch.searchsorted(ends, place, right=True)
    source = step * x.shape[1] + place - (ends - batch_sizes)[step]
    return x.flatten(0, 1).index_select(0, source.to(x.device))
