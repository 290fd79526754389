"""torch.nn's LSTM, GRU and RNN on our kernels: the same constructors, parameters, states, checkpoints and errors."""

import copy
from types import FunctionType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules import rnn as torchs
from torch.nn.utils.rnn import PackedSequence

from deep_rnn import torch_calls


def on_our_kernels(forward: Any) -> Any:
    """torch.nn's own ``forward`` with our functions in the place of ``torch._VF``: its checks, its order of things, its
    words for what is wrong, in whatever version of torch is installed."""
    names = {**vars(torchs), "_VF": torch_calls.Functions}
    return FunctionType(forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__)


class EqualsTorchs(type):
    """Classes that equal the one of torch.nn that they stand for: whoever goes by ``type(module) == nn.LSTM``, or looks
    a class up in a table (``quantize_dynamic``), finds what they look for."""

    torchs: Any

    def __eq__(cls, other: object) -> bool:
        return cls is other or cls.torchs is other

    def __hash__(cls) -> int:
        return hash(cls.torchs)


class DropIn:
    """What the three layers share.

    ``forward(input, hx=None)`` is torch.nn's, with two arguments more for a padded batch:

    Args:
        lengths: [B] valid steps of each sequence, 0 to T, in place of packing: output is zero behind them, and the
            state that of the last valid step. What stands in the padding changes nothing.
        starts: bool, laid out as the batch is ([T, B], [B, T] with batch_first): steps at which a sequence begins anew
            with a state of zeros, as episodes do in reinforcement learning; ``hx`` holds up to the first. The backward
            direction of a bidirectional layer begins anew at the last step before a start.
    """

    torchs: Any  # the class of torch.nn
    torchs_forward: Any
    batch_first: bool

    def forward(self, input: Any, hx: Any = None, lengths: Any = None, starts: Tensor | None = None) -> Any:
        """As torch.nn's; see ``DropIn``."""
        if lengths is None and starts is None:
            return self.torchs_forward(input, hx)
        if isinstance(input, PackedSequence) or input.dim() != 3:
            raise ValueError("lengths and starts are for a padded batch of sequences, 3-D")
        raise NotImplementedError

    def __prepare_scriptable__(self) -> nn.Module:
        """What torch.jit.script compiles: torch's own layer, with these parameters."""
        twin: Any = copy.copy(self)
        twin.__class__ = self.torchs
        return twin


class LSTM(DropIn, nn.LSTM, metaclass=EqualsTorchs):
    """torch.nn.LSTM on the fused kernels wherever they are faster; see ``DropIn``."""

    torchs = nn.LSTM
    torchs_forward = on_our_kernels(nn.LSTM.forward)


class GRU(DropIn, nn.GRU, metaclass=EqualsTorchs):
    """torch.nn.GRU on the fused kernels wherever they are faster; see ``DropIn``."""

    torchs = nn.GRU
    torchs_forward = on_our_kernels(nn.GRU.forward)


class RNN(DropIn, nn.RNN, metaclass=EqualsTorchs):
    """torch.nn.RNN on the fused kernels wherever they are faster; see ``DropIn``."""

    torchs = nn.RNN
    torchs_forward = on_our_kernels(nn.RNN.forward)
