"""PackedSequence in and out."""

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence


def unpack(packed: PackedSequence) -> tuple[Tensor, Tensor]:
    """A packed batch as x [T, B, I] and lengths [B], in the order its caller knows."""
    return pad_packed_sequence(packed)


def pack_like(output: Tensor, packed: PackedSequence) -> PackedSequence:
    """Pack output [T, B, F] in the same order and with the same batch sizes as ``packed``."""
    if packed.sorted_indices is not None:
        output = output.index_select(1, packed.sorted_indices)
    lengths = (packed.batch_sizes[:, None] > torch.arange(output.shape[1])).sum(0)
    data = pack_padded_sequence(output, lengths).data
    return PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
