"""torch.nn's LSTM, GRU, RNN, LSTMCell and GRUCell on our kernels.

Constructors, parameters, states, checkpoints and errors are the same. torch.nn's RNNCell has no counterpart: one step
of it is over before a fused kernel has begun.
"""

import copy
from abc import ABCMeta
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.modules import rnn as torchs
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from deep_rnn import torch_calls
from deep_rnn.episodes import cut
from deep_rnn.inputs import checked_lengths, checked_starts
from deep_rnn.kernels.sequence import mask_padding
from deep_rnn.kernels.tracing import in_graph, is_shape_only
from deep_rnn.packing import pack_like, unpack


def on_our_kernels(forward: Any) -> Any:
    """torch.nn's own ``forward`` with our functions in the place of ``torch._VF``: its checks, its order of things, its
    words for what is wrong, in whatever version of torch is installed."""
    names = {**vars(torchs), "_VF": torch_calls.Functions}
    del names["__name__"]  # by which torch.compile would look for torch's _VF
    return FunctionType(forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__)


class EqualsTorchs(ABCMeta):  # so that they can stand beside abstract classes, as torch.nn's can
    """Classes that equal the one of torch.nn that they stand for: whoever goes by ``type(module) == nn.LSTM``, or looks
    a class up in a table (``quantize_dynamic``), finds what they look for."""

    torchs: Any

    def __eq__(cls, other: object) -> bool:
        return cls is other or cls.torchs is other

    def __hash__(cls) -> int:
        return hash(cls.torchs)

    # Of ordinary classes: those of abstract ones remember answers by equal classes.
    __instancecheck__ = type.__instancecheck__
    __subclasscheck__ = type.__subclasscheck__


class DropIn:
    """What layers and cells share: torch's own ``forward`` that ends in our functions, and who sees torch's class."""

    torchs: Any  # the class of torch.nn
    torchs_forward: Any

    def traced(self, first: Proxy, *rest: Any) -> Any:
        """What torch.fx writes down: a call of this module, as of torch's own."""
        tracer: Any = first.tracer
        return tracer.create_proxy("call_module", tracer.path_of_module(self), (first, *rest), {})

    def __prepare_scriptable__(self) -> nn.Module:
        """What torch.jit.script compiles: torch's own module, with these parameters.

        torch leaves it in the place of this one in the model that was scripted; ``accelerate`` changes that again.
        """
        twin: Any = copy.copy(self)
        twin.__class__ = self.torchs
        return twin


class DropInLayer(DropIn):
    """A layer's ``forward(input, hx=None)`` is torch.nn's, with two arguments more for a padded batch:

    Args:
        lengths: [B] valid steps of each sequence, 0 to T, in place of packing: output is zero behind them, and the
            state that of the last valid step. What stands in the padding changes nothing.
        starts: bool, laid out as the batch is ([T, B], [B, T] with batch_first): steps at which a sequence begins anew
            with a state of zeros, as episodes do in reinforcement learning; ``hx`` holds up to the first. The backward
            direction of a bidirectional layer begins anew at the last step before a start.
    """

    batch_first: bool

    def forward(self, input: Any, hx: Any = None, lengths: Any = None, starts: Tensor | None = None) -> Any:
        """As torch.nn's; see ``DropInLayer``.

        Raises:
            ValueError: for lengths or starts that do not fit, or with anything but a padded batch.
        """
        if isinstance(input, Proxy):
            return self.traced(input, hx, lengths, starts)
        if lengths is None and starts is None:
            return self.forward_packed(input, hx) if is_packed_in_graph(input) else self.torchs_forward(input, hx)
        if isinstance(input, PackedSequence) or input.dim() != 3:
            raise ValueError("lengths and starts are for a padded batch of sequences: a tensor of 3 dimensions")
        return self.forward_padded(input, hx, lengths, starts)

    def forward_packed(self, input: PackedSequence, hx: Any) -> Any:
        """``forward`` in a graph, where torch's own would ask the data for the number of sequences."""
        x, lengths = unpack(input)
        output, ended = self.forward_padded(x.transpose(0, 1) if self.batch_first else x, hx, lengths, None)
        return pack_like(output.transpose(0, 1) if self.batch_first else output, input), ended

    def forward_padded(self, input: Tensor, hx: Any, lengths: Any, starts: Tensor | None) -> Any:
        """``forward`` with lengths or starts."""
        module: Any = self
        x = input.transpose(0, 1) if self.batch_first else input
        two = isinstance(self, nn.LSTM)
        if hx is None:
            first: tuple[Tensor, ...] = zeros(module, x)
        else:
            module.check_forward_args(input, hx, None)
            first = tuple(hx) if two else (hx,)
        valid = checked_lengths(lengths, x)
        if starts is None:
            output, ended = self.over_lengths(x, first, valid)
        else:
            episodes = cut(checked_starts(starts, x, self.batch_first), valid)
            backward = [module.bidirectional and place % 2 == 1 for place in range(len(first[0]))]

            def each(function: Any, field: Tensor) -> Tensor:
                return torch.stack([function(h, backward=b) for h, b in zip(field, backward, strict=True)])

            begin = tuple(each(episodes.state, field) for field in first)
            output, ended = self.over_lengths(episodes.rows(x), begin, episodes.lengths)
            output, ended = episodes.whole(output), tuple(each(episodes.last, field) for field in ended)
        return output.transpose(0, 1) if self.batch_first else output, ended if two else ended[0]

    def over_lengths(
        self, x: Tensor, first: tuple[Tensor, ...], lengths: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Output [T, B, D*H] and last states over x [T, B, I], by the fused kernels, or packed by torch's."""
        asked = asked_of(self, x, first)
        if torch_calls.why_torch(asked) is None:
            output, *ended = torch_calls.run(asked, lengths)
            return output, tuple(ended)
        if is_shape_only(x):  # nothing to pack by
            output, *ended = torch_calls.by_torch(asked)
            return output, tuple(ended)
        lengths = torch.full((x.shape[1],), x.shape[0]) if lengths is None else lengths
        packed = pack_padded_sequence(x, lengths.clamp(min=1).cpu(), enforce_sorted=False)  # refuses lengths of 0
        output, last = self.torchs_forward(packed, first if len(first) == 2 else first[0])
        output = mask_padding(pad_packed_sequence(output, total_length=x.shape[0])[0], lengths.to(x.device))
        is_empty = (lengths == 0).to(x.device)[:, None]
        last = last if isinstance(last, tuple) else (last,)
        return output, tuple(torch.where(is_empty, before, after) for before, after in zip(first, last, strict=True))


def is_packed_in_graph(input: Any) -> bool:
    """Whether a packed batch enters a graph: of sequences that were sorted, whose number is a shape then."""
    return in_graph() and isinstance(input, PackedSequence) and input.sorted_indices is not None


def zeros(module: Any, x: Tensor) -> tuple[Tensor, ...]:
    """The states that torch.nn's modules begin with."""
    places, batch = module.num_layers * (1 + module.bidirectional), x.shape[1]
    h = x.new_zeros(places, batch, module.proj_size or module.hidden_size)
    return (h, x.new_zeros(places, batch, module.hidden_size)) if isinstance(module, nn.LSTM) else (h,)


def asked_of(module: Any, x: Tensor, first: tuple[Tensor, ...]) -> torch_calls.Asked:
    """What a module asks of the kernels for x [T, B, I]."""
    module._update_flat_weights()
    options = module.bias, module.num_layers, module.dropout, module.training, module.bidirectional
    return torch_calls.Asked(module.mode, x, first, module._flat_weights, *options)


class LSTM(DropInLayer, nn.LSTM, metaclass=EqualsTorchs):
    """torch.nn.LSTM on the fused kernels wherever they are faster; see ``DropInLayer``."""

    torchs = nn.LSTM
    torchs_forward = on_our_kernels(nn.LSTM.forward)


class GRU(DropInLayer, nn.GRU, metaclass=EqualsTorchs):
    """torch.nn.GRU on the fused kernels wherever they are faster; see ``DropInLayer``."""

    torchs = nn.GRU
    torchs_forward = on_our_kernels(nn.GRU.forward)


class RNN(DropInLayer, nn.RNN, metaclass=EqualsTorchs):
    """torch.nn.RNN on the fused kernels wherever they are faster; see ``DropInLayer``."""

    torchs = nn.RNN
    torchs_forward = on_our_kernels(nn.RNN.forward)


class DropInCell(DropIn):
    """A cell's ``forward(input, hx=None)`` is torch.nn's."""

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """As torch.nn's."""
        return self.traced(input, hx) if isinstance(input, Proxy) else self.torchs_forward(input, hx)


class LSTMCell(DropInCell, nn.LSTMCell, metaclass=EqualsTorchs):
    """torch.nn.LSTMCell on the fused kernels wherever they are faster."""

    torchs = nn.LSTMCell
    torchs_forward = on_our_kernels(nn.LSTMCell.forward)


class GRUCell(DropInCell, nn.GRUCell, metaclass=EqualsTorchs):
    """torch.nn.GRUCell on the fused kernels wherever they are faster."""

    torchs = nn.GRUCell
    torchs_forward = on_our_kernels(nn.GRUCell.forward)
