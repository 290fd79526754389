"""The recurrent functions that torch.nn's modules call (``torch._VF.lstm`` …), on the fused kernels where they pay.

They take what torch's take, give what torch's give, and draw the same dropout from the same seed. What the kernels
cannot do (``why_torch``), or torch does faster (``is_tiny``), goes to torch's own function.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional as F

from deep_rnn.cells import CELLS, Cell
from deep_rnn.kernels import fused, twice
from deep_rnn.kernels.tracing import in_graph
from deep_rnn.packing import lengths_of, packed_data, padded

KERNELS = {"LSTM": "lstm", "GRU": "gru", "RNN_TANH": "rnn_tanh", "RNN_RELU": "rnn_relu"}
TORCHS: dict[str, Any] = {
    "LSTM": torch._VF.lstm,
    "GRU": torch._VF.gru,
    "RNN_TANH": torch._VF.rnn_tanh,
    "RNN_RELU": torch._VF.rnn_relu,
}
TORCHS_CELLS: dict[str, Any] = {"LSTM": torch._VF.lstm_cell, "GRU": torch._VF.gru_cell}
PLAIN = (Tensor, nn.Parameter)  # whatever else calls itself a tensor (fake, distributed, quantised) is torch's business


class Asked(NamedTuple):
    """What one call asks for; x is [T, B, I] whatever the caller's layout."""

    mode: str  # a key of KERNELS
    x: Tensor
    hx: tuple[Tensor, ...]  # h, or h and c, [L*D, B, H] each
    weights: Sequence[Tensor]
    bias: bool
    num_layers: int
    dropout: float
    training: bool
    bidirectional: bool

    @property
    def hidden_size(self) -> int:
        """H."""
        return self.weights[1].shape[-1]


def why_torch(asked: Asked) -> str | None:
    """Why the fused kernels cannot run a call, or None."""
    x, first = asked.x, asked.weights[0]
    if x.device.type != "cpu":
        return f"torch's own kernels run on {x.device.type}"
    dtype = first.dtype
    if dtype not in (torch.float32, torch.float64):
        return f"the fused kernels run in float32 and float64, not {dtype}"
    if any(type(t) not in PLAIN or t.dtype != dtype or t.device != x.device for t in (x, *asked.hx, *asked.weights)):
        return "the fused kernels take plain tensors of one dtype"
    if len(asked.weights) != asked.num_layers * (1 + asked.bidirectional) * (4 if asked.bias else 2):
        return "the fused kernels have no projection of h (proj_size)"
    if is_traced():
        return "torch.jit.trace and the older ONNX exporter record torch's own operators"
    if forward_ad._current_level >= 0:
        return "the fused kernels have no forward-mode derivative"
    if torch.is_autocast_enabled("cpu"):
        return "autocast asks for half precision"
    if x.numel() == 0 or asked.hidden_size == 0 or x.layout is not torch.strided:
        return "there is nothing to compute, or not from a dense tensor"
    return fused.why_not()


def is_traced() -> bool:
    """Whether torch.jit.trace looks on, and compares what it has seen with another look."""
    return torch._C._get_tracing_state() is not None


def is_tiny(mode: str, steps: int, hidden: int) -> bool:
    """Whether a call is over before the fused operator has been reached: ``steps`` are time steps times layers.

    Processor time on one thread of a Zen 5 server, torch's over ours: RNN without gradients 0.6 at one step of one
    sequence, 0.9 at four, 1.7 at twenty; with gradients 0.85 to 1.0 at one, 1.2 at two. GRU without gradients 0.8 at
    one step of 64 units, 1.1 of 256, 1.1 at two steps; with gradients 1.3. LSTM never less than 1.1.
    """
    if mode == "LSTM":
        return False
    if torch.is_grad_enabled():
        return mode != "GRU" and steps == 1
    return steps == 1 and hidden <= 128 if mode == "GRU" else steps <= 5


def run(asked: Asked, lengths: Tensor | None = None, between: Sequence[Tensor] | None = None) -> tuple[Tensor, ...]:
    """A call by the fused kernels: output [T, B, D*H], then the last h (and c) [L*D, B, H].

    Args:
        lengths: [B] int64 valid steps of each column; None: all.
        between: masks of dropout between the layers, if they have been drawn.
    """
    mode, x, hx, weights, bias, layers, _, _, both = asked
    between = draw(asked) if between is None else between
    fields = [field.unbind(0) for field in hx]
    states = list(fields[0]) if len(fields) == 1 else [field for pair in zip(*fields, strict=True) for field in pair]
    output, ended = fused.unroll(
        x,
        states,
        weights,
        KERNELS[mode],
        (False, True) if both else (False,),
        lengths,
        names=fused.TORCH_NAMES if bias else fused.TORCH_NAMES[:2],
        between=between,
        cells=cells_of(mode, x.shape[-1], asked.hidden_size, layers, both, bias) if twice.possible() else (),
    )
    count = len(hx)
    return output, *(joined(ended[k::count]) for k in range(count))


def by_torch(asked: Asked) -> tuple[Tensor, ...]:
    """A call by torch's own function, as ``run`` gives it, over whole sequences."""
    mode, x, hx, weights, bias, layers, dropout, training, both = asked
    states = hx if mode == "LSTM" else hx[0]
    return tuple(TORCHS[mode](x, states, weights, bias, layers, dropout, training, both, False))


def draw(asked: Asked) -> list[Tensor]:
    """Masks of dropout [..., D*H] between the layers, laid out as x [..., I] is: as many numbers as torch.nn draws."""
    if not (asked.training and asked.dropout):
        return []
    shape = (*asked.x.shape[:-1], (1 + asked.bidirectional) * asked.hidden_size)
    return [fused.dropout_mask(asked.x, shape, asked.dropout) for _ in range(asked.num_layers - 1)]


def joined(states: list[Tensor]) -> Tensor:
    """States [B, H] of all layers and directions as one tensor [L*D, B, H]."""
    return states[0].unsqueeze(0) if len(states) == 1 else torch.stack(states)


@functools.lru_cache(maxsize=1000)
def cells_of(mode: str, inputs: int, hidden: int, layers: int, both: bool, bias: bool) -> tuple[Cell, ...]:
    """Cells without memory that have the equations of a module: second derivatives are taken by their ``step``."""
    options: dict[str, Any]
    name, options = ("rnn", {"activation": mode[4:].lower()}) if mode.startswith("RNN") else (mode.lower(), {})
    sizes = [inputs, *[(1 + both) * hidden] * (layers - 1)]
    make: Any = functools.partial(CELLS[name], bias=bias, device="meta", **options)
    return tuple(make(size, hidden) for size in sizes for _ in range(1 + both))


def call(mode: str, *args: Any) -> tuple[Tensor, ...]:
    """``torch._VF``'s function of a mode, padded or packed."""
    if isinstance(args[3], list):
        return packed(mode, args)
    x, hx, weights, bias, layers, dropout, training, both, batch_first = args
    if is_traced() or is_tiny(mode, x.shape[1 if batch_first else 0] * layers, weights[1].shape[-1]):
        return torchs(mode, args)
    states = hx if mode == "LSTM" else (hx,)
    time_major = x.transpose(0, 1) if batch_first else x
    asked = Asked(mode, time_major, states, weights, bias, layers, dropout, training, both)
    if why_torch(asked) is not None:
        return torchs(mode, args)
    output, *ended = run(asked)
    return output.transpose(0, 1) if batch_first else output, *ended


def torchs(mode: str, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """A call by torch's own function, padded or packed.

    Traced into a graph it would lose the dropout between its layers, in silence: they run one after another there.
    """
    at = 2 if isinstance(args[3], list) else 1  # where the states are
    hx, weights, bias, layers, dropout, training = args[at : at + 6]
    if not (in_graph() and training and dropout and layers > 1):
        return TORCHS[mode](*args)
    x, ended = args[0], []
    fields = [field.chunk(layers) for field in (hx if mode == "LSTM" else (hx,))]
    each = len(weights) // layers
    for layer, first in enumerate(zip(*fields, strict=True)):
        own, states = weights[layer * each : (layer + 1) * each], first if mode == "LSTM" else first[0]
        x = F.dropout(x, dropout) if layer else x
        x, *last = TORCHS[mode](x, *args[1:at], states, own, bias, 1, 0.0, training, *args[at + 6 :])
        ended.append(last)
    return x, *map(torch.cat, zip(*ended, strict=True))


def packed(mode: str, args: tuple[Any, ...]) -> tuple[Tensor, ...]:
    """A call over a PackedSequence's data [sum of lengths, I], as a padded batch: rows lie sorted by length."""
    data, batch_sizes, hx, weights, bias, layers, dropout, training, both = args
    states = hx if mode == "LSTM" else (hx,)
    steps, batch = len(batch_sizes), states[0].shape[1]
    asked = Asked(mode, data, states, weights, bias, layers, dropout, training, both)
    if why_torch(asked) is not None:
        return torchs(mode, args)
    drawn = draw(asked)
    if len(data) == steps * batch:
        x, between = data.unflatten(0, (steps, batch)), [mask.unflatten(0, (steps, batch)) for mask in drawn]
        output, *ended = run(asked._replace(x=x), None, between)
        return output.flatten(0, 1), *ended
    x, *between = [padded(one, batch_sizes, batch) for one in (data, *drawn)]
    output, *ended = run(asked._replace(x=x), lengths_of(batch_sizes, batch), between)
    return packed_data(output, batch_sizes, len(data)), *ended


def starts_slower(mode: str, hidden: int) -> bool:
    """Whether torch's function is the faster one for a cell: a call of one step.

    Processor time on one thread of a Zen 5 server, torch's over ours, one to 32 rows: LSTM with gradients 1.2 to 1.3;
    without 0.9 to 1.0 at 64 units, 1.1 to 1.5 from 256 on. GRU with gradients 1.1 to 1.5 up to 256 units and 0.7 at
    512; without 1.1 to 1.6. RNN 0.7 to 1.2, less than 1 nearly everywhere.
    """
    if mode == "LSTM":
        return hidden < 128 and not torch.is_grad_enabled()
    return hidden > 256 and torch.is_grad_enabled()


def cell(mode: str, x: Tensor, hx: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None) -> Any:
    """``torch._VF``'s function of a mode's cell: one step of x [B, I], with states [B, H]."""
    if starts_slower(mode, w_hh.shape[-1]):
        return TORCHS_CELLS[mode](x, hx, w_ih, w_hh, b_ih, b_hh)
    states = tuple(h.unsqueeze(0) for h in (hx if mode == "LSTM" else (hx,)))
    weights = [w_ih, w_hh] if b_ih is None else [w_ih, w_hh, b_ih, b_hh]
    asked = Asked(mode, x.unsqueeze(0), states, weights, len(weights) == 4, 1, 0.0, False, False)
    if why_torch(asked) is not None:
        return TORCHS_CELLS[mode](x, hx, w_ih, w_hh, b_ih, b_hh)
    _, *ended = run(asked)
    return tuple(h.squeeze(0) for h in ended) if mode == "LSTM" else ended[0].squeeze(0)


class Functions:
    """In the place of ``torch._VF`` in the code of torch.nn's modules."""

    lstm_cell = staticmethod(functools.partial(cell, "LSTM"))
    gru_cell = staticmethod(functools.partial(cell, "GRU"))

    lstm = staticmethod(functools.partial(call, "LSTM"))
    gru = staticmethod(functools.partial(call, "GRU"))
    rnn_tanh = staticmethod(functools.partial(call, "RNN_TANH"))
    rnn_relu = staticmethod(functools.partial(call, "RNN_RELU"))
