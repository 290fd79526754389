"""DeepRNN: recurrent layers of any cell, width, link and direction stacked into one module."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from deep_rnn import state as states_of
from deep_rnn.cells import Cell
from deep_rnn.dropout import Rates, checked_dropout
from deep_rnn.explanation import explain
from deep_rnn.hooks import must_be_called
from deep_rnn.inputs import checked_flag, checked_starts
from deep_rnn.interop import keras as interop_keras
from deep_rnn.interop import torch as interop_torch
from deep_rnn.kernels import BACKENDS, Choices
from deep_rnn.layer import Layer, merged_size
from deep_rnn.links import LINKS, Dense, NoLink
from deep_rnn.naming import check_name
from deep_rnn.norms import NORMS, PLACES, norm_of
from deep_rnn.packing import pack_like, unpack
from deep_rnn.running import StackNoise, run
from deep_rnn.specification import build_cells
from deep_rnn.state import StackState


class DeepRNN(nn.Module):
    """A deep recurrent network: h_t^l = cell^l(h_t^{l-1}, h_{t-1}^l), with links between the layers.

    Called like torch.nn.LSTM: ``output, state = rnn(x, state=None, lengths=None)`` with x [T, B, I] (or [B, T, I] with
    ``batch_first``, [T, I] unbatched, or a PackedSequence) and output [T, B, ``rnn.output_size``]. The state is a
    ``StackState`` with one entry a layer, a pair when bidirectional; ``state_to_torch`` and ``state_from_torch``
    convert. State passed in is used and never changed, so a sequence run in chunks equals the whole (one direction,
    noise off or handed on).

    Args:
        input_size: I, features of one input step.
        hidden_size: H, features of a layer; a list gives each layer its own.
        num_layers: number of layers.
        cell: name in ``CELLS``, dotted path or subclass of Cell; a list gives each layer its own.
        link: none, residual, highway or dense; see ``deep_rnn.links``.
        bidirectional: True: every layer also runs from the last step to the first, and the layer above reads both.
            "stacks": two whole stacks, one over the sequence and one over its reverse, meet at the top only.
        merge: concat, sum, mean or mul of the two directions.
        dropout: probability of dropping an output of a layer, all layers but the last as in torch.nn; a list gives one
            a layer, the last included.
        locked_dropout: hold the dropout mask for a whole sequence (Gal & Ghahramani 2016) instead of drawing each step.
        recurrent_dropout: of h before the recurrent product, one mask a sequence (Gal & Ghahramani 2016).
        candidate_dropout: of the candidate update, one mask a sequence (Semeniuta et al. 2016).
        weight_drop: of the recurrent weights, once a forward call (Merity et al. 2018).
        zoneout: probability that a unit keeps its old state (Krueger et al. 2017); a tuple gives one a field.
        norm: none, layer or rms, between the layers; norms inside a cell are options of the cell.
        norm_place: pre, ``link(x, layer(norm(x)))``, or post, ``norm(link(x, layer(x)))``.
        bias: whether the cells' products have biases.
        batch_first: whether input and output are [B, T, features]. States are [B, H] either way.
        init: named initialiser of the cells, see ``deep_rnn.init``.
        forget_bias: start of the forget gate's bias; None leaves it to ``init``.
        horizon: steps that the chrono initialiser prepares the memory for.
        link_start: the first layer that has the link; the layers below are plain.
        gate_bias: start of a highway link's gate bias.
        learn_state: learn the state before the first step, which starts at zero.
        recompute: steps a chunk whose activations the backward computes again instead of keeping them.
        backend: auto or a name in ``deep_rnn.kernels.BACKENDS``; see ``explain``.
        cell_options: options of the cells (``activation="relu"``, ``reset_after=False``); a list gives one a layer.
    Raises:
        ValueError: for an unknown name, a size below 1, a list of the wrong length, a rate outside [0, 1) (dropout of
            outputs may be 1, as in torch.nn).
        TypeError: for an option that no cell of the stack takes.
    """

    layers: Any  # nn.ModuleList of Layer
    links: Any  # nn.ModuleList of what LINKS holds
    norms: Any  # nn.ModuleList of what NORMS holds

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        cell: str | type[Cell] | Sequence[str | type[Cell]] = "lstm",
        link: str = "none",
        bidirectional: bool | str = False,
        merge: str = "concat",
        dropout: float | Sequence[float] = 0.0,
        *,
        locked_dropout: bool = False,
        recurrent_dropout: float = 0.0,
        candidate_dropout: float = 0.0,
        weight_drop: float = 0.0,
        zoneout: float | tuple[float, ...] = 0.0,
        norm: str = "none",
        norm_place: str = "pre",
        bias: bool = True,
        batch_first: bool = False,
        init: str = "torch",
        forget_bias: float | None = None,
        horizon: int = 100,
        link_start: int = 0,
        gate_bias: float = -2.0,
        learn_state: bool = False,
        recompute: int | None = None,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **cell_options: Any,
    ) -> None:
        super().__init__()
        given = {name: value for name, value in locals().items() if name not in ("self", "__class__", "cell_options")}
        self.arguments: dict[str, Any] = {**given, **cell_options}
        bias, batch_first = checked_flag("bias", bias), checked_flag("batch_first", batch_first)
        if input_size < 1:
            raise ValueError(f"input_size must be at least 1, not {input_size}")
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, not {num_layers}")
        if recompute is not None and recompute < 1:
            raise ValueError(f"recompute must be at least 1 step, not {recompute}")
        if bidirectional not in (False, True, "stacks"):
            raise ValueError(f"bidirectional is False, True or 'stacks', not {bidirectional!r}")
        if bidirectional != "stacks":
            bidirectional = bool(bidirectional)  # 1 and numpy's True equal True and are not it
        check_name("link", link, LINKS)
        check_name("norm", norm, NORMS)
        check_name("norm_place", norm_place, PLACES)
        self.input_size, self.num_layers, self.bidirectional = input_size, num_layers, bool(bidirectional)
        self.batch_first, self.link, self.merge, self.backend = batch_first, link, merge, backend
        self.norm, self.norm_place, self.recompute = norm, norm_place, recompute

        rates = [
            Rates(rate, recurrent_dropout, candidate_dropout, weight_drop).checked()
            for rate in checked_dropout(dropout, num_layers)
        ]
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        common = {"init": init, "forget_bias": forget_bias, "horizon": horizon, "bias": bias, **factory}
        self.layers, self.links, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        size = input_size
        for index, make in enumerate(build_cells(cell, hidden_size, num_layers, cell_options)):
            cells = [make(size, **common) for _ in range(2 if bidirectional is True else 1)]
            layer = Layer(cells, merge, rates[index], locked_dropout, zoneout, learn_state)
            options = {"gate_bias": gate_bias} if link == "highway" and index >= link_start else {}
            joined: Any = LINKS[link if index >= link_start else "none"](size, layer.output_size, **options, **factory)
            self.layers.append(layer)
            self.links.append(joined)
            self.norms.append(norm_of(norm, size if norm_place == "pre" else joined.output_size, **factory))
            size = joined.output_size
        self.mirror = DeepRNN(**{**self.arguments, "bidirectional": False}) if bidirectional == "stacks" else None
        self.is_bare = norm == "none" and all(isinstance(link, NoLink) for link in self.links)
        self.is_bare &= bidirectional is not True or merge == "concat"
        self.choices = Choices()

    @property
    def backend(self) -> str:
        """The backend asked for: auto or a name in ``deep_rnn.kernels.BACKENDS``; may be set at any time."""
        return self._backend

    @backend.setter
    def backend(self, name: str) -> None:
        check_name("backend", name, ["auto", *BACKENDS])
        self._backend = name
        mirror = getattr(self, "mirror", None)
        if mirror is not None:
            mirror.backend = name

    @property
    def dropout(self) -> float | list[float]:
        """Probability of dropping an output of a layer; may be set at any time, in either form that the class takes.

        One number where all layers but the last have it and the last has none, else a list with one a layer.
        """
        rates = [layer.rates.dropout for layer in self.layers]
        return rates[0] if len(set(rates[:-1])) == 1 and rates[-1] == 0 else (0.0 if not any(rates) else rates)

    @dropout.setter
    def dropout(self, rate: float | Sequence[float]) -> None:
        for layer, one in zip(self.layers, checked_dropout(rate, self.num_layers), strict=True):
            layer.rates = layer.rates._replace(dropout=one)
        mirror = getattr(self, "mirror", None)
        if mirror is not None:
            mirror.dropout = rate

    @property
    def output_size(self) -> int:
        """Features of the output; with dense links those of all layers together."""
        own = self.links[-1].output_size - (self.input_size if self.carries_input else 0)
        return own if self.mirror is None else merged_size(own, 2, self.merge)

    @property
    def carries_input(self) -> bool:
        """Whether dense links carry the input up to the output, where it is cut off again: the head sees all layers."""
        return isinstance(self.links[0], Dense)

    # --- the call -----------------------------------------------------------------------------------------------------

    def forward(
        self,
        x: Tensor | PackedSequence,
        state: StackState | Sequence[Any] | None = None,
        lengths: Tensor | Sequence[int] | None = None,
        noise: StackNoise | None = None,
        starts: Tensor | None = None,
    ) -> tuple[Any, StackState]:
        """Run the stack over a batch of sequences.

        Args:
            x: [T, B, I]; [B, T, I] with batch_first; [T, I] unbatched; or a PackedSequence.
            state: as returned before, or a tuple with one entry a layer, tensors [B, H] ([H] unbatched); None: begin
                with ``initial_state``.
            lengths: [B] valid steps of each sequence, 0 to T; what stands behind them changes nothing.
            noise: masks from ``draw_noise``, to use the same again; None draws new ones in training.
            starts: bool [T, B] (in x's layout; [T] unbatched), before which steps a sequence's state begins anew, from
                ``initial_state``; ``state`` holds up to its first start. The backward direction of a bidirectional
                stack begins anew at the last step of each such part. Masks in ``noise`` hold for the whole call.
        Returns:
            The output, in the layout of x, zero at padded steps, and the state after each sequence's last valid step.
        Raises:
            ValueError: for shapes, lengths or states that do not fit, or a backend that cannot run this.
        """
        if isinstance(x, PackedSequence):
            if lengths is not None:
                raise ValueError("a PackedSequence brings its own lengths")
            padded, own_lengths = unpack(x)
            starts = None if starts is None else checked_starts(starts, padded)
            result = run(self, padded, state, own_lengths, noise, starts)
            return pack_like(result.output, x), result.state
        if x.dim() == 2:
            one = None if state is None else states_of.batched(state, list(self.layers), self.mirror is not None)
            count = None if lengths is None else torch.as_tensor(lengths).reshape(1)
            x = x.unsqueeze(1)
            starts = None if starts is None else checked_starts(torch.as_tensor(starts).unsqueeze(-1), x)
            result = run(self, x, one, count, noise, starts)
            return result.output.squeeze(1), states_of.map_state(lambda value: value.squeeze(0), result.state)
        x = self.time_major(x)
        starts = None if starts is None else checked_starts(starts, x, self.batch_first)
        result = run(self, x, state, lengths, noise, starts)
        return self.time_major(result.output), result.state

    def layer_outputs(
        self,
        x: Tensor,
        state: StackState | Sequence[Any] | None = None,
        lengths: Tensor | Sequence[int] | None = None,
        noise: StackNoise | None = None,
        starts: Tensor | None = None,
    ) -> tuple[tuple[Tensor, ...], StackState]:
        """``forward`` on a batch, but every layer's own output h^l (before dropout and link), in the layout of x."""
        x = self.time_major(x)
        starts = None if starts is None else checked_starts(starts, x, self.batch_first)
        result = run(self, x, state, lengths, noise, starts, layer_by_layer=True)
        return tuple(self.time_major(output) for output in result.layers), result.state

    def step(
        self, x: Tensor, state: StackState | Sequence[Any] | None = None, noise: StackNoise | None = None
    ) -> tuple[Tensor, StackState]:
        """One time step, x [B, I] (or [I]) -> output [B, output_size] and the state after it: the stack as a cell.

        Raises:
            ValueError: if bidirectional, since the backward direction needs the steps to come.
        """
        if self.bidirectional:
            raise ValueError("a bidirectional stack cannot run step by step: the steps to come are part of its input")
        if x.dim() == 1:
            output, ended = self(x.unsqueeze(0), state, noise=noise)
            return output.squeeze(0), ended
        if must_be_called(self):
            time = 1 if self.batch_first else 0
            output, ended = self(x.unsqueeze(time), state, noise=noise)
            return output.squeeze(time), ended
        result = run(self, x.unsqueeze(0), state, None, noise)
        return result.output.squeeze(0), result.state

    # --- state and noise ----------------------------------------------------------------------------------------------

    def initial_state(self, batch_size: int) -> StackState:
        """The state before the first step, as ``forward`` takes it: zeros, or what was learned."""
        states = tuple(layer.initial_state(batch_size) for layer in self.layers)
        own = tuple(directions[0] if len(directions) == 1 else directions for directions in states)
        if self.mirror is not None:
            own = tuple(zip(own, self.mirror.initial_state(batch_size).layers, strict=True))
        return StackState(own)

    def draw_noise(self, batch_size: int) -> StackNoise:
        """Masks that hold for a whole sequence (locked, recurrent, candidate, weights), to be handed to ``forward``."""
        own = tuple(layer.draw_noise(batch_size) for layer in self.layers)
        return own if self.mirror is None else (own, self.mirror.draw_noise(batch_size))

    @staticmethod
    def detach(state: Any) -> Any:
        """The state cut from its history, for truncated back-propagation."""
        return states_of.detach(state)

    def levels(self) -> list[list[nn.Parameter]]:
        """The parameters layer by layer, bottom first: a layer's cells, its norm and its link."""
        layers = zip(self.layers, self.links, self.norms, strict=True)
        own = [[parameter for module in parts for parameter in module.parameters()] for parts in layers]
        if self.mirror is None:
            return own
        return [one + other for one, other in zip(own, self.mirror.levels(), strict=True)]

    @staticmethod
    def state_to_torch(state: Any) -> Any:
        """A state as torch.nn has it: h [L*D, B, H], or (h, c)."""
        return states_of.to_torch(state)

    def state_from_torch(self, state: Any) -> StackState:
        """torch.nn's h, or (h, c), as a state of this stack."""
        return states_of.from_torch(state, self.layers[0].cell.State, self.num_layers, 1 + self.bidirectional)

    # --- weights from and to other libraries --------------------------------------------------------------------------

    @classmethod
    def from_torch(cls, module: nn.RNNBase, **options: Any) -> "DeepRNN":
        """A stack like a torch.nn.RNN, LSTM or GRU; see ``deep_rnn.interop.torch.stack_from_torch``."""
        return interop_torch.stack_from_torch(cls, module, options)

    def to_torch(self) -> nn.RNNBase:
        """The torch.nn.RNN, LSTM or GRU that computes the same; see ``deep_rnn.interop.torch.stack_to_torch``."""
        return interop_torch.stack_to_torch(self)

    @classmethod
    def from_keras(
        cls,
        weights: Sequence[Any],
        cell: str | Sequence[str],
        bidirectional: bool = False,
        merge: str = "concat",
        reset_after: bool = True,
        **options: Any,
    ) -> "DeepRNN":
        """A stack with the arrays of Keras layers; see ``deep_rnn.interop.keras.stack_from_keras``."""
        return interop_keras.stack_from_keras(cls, weights, cell, bidirectional, merge, reset_after, options)

    def to_keras(self) -> list[Any]:
        """The arrays that the same layers in Keras take; see ``deep_rnn.interop.keras.stack_to_keras``."""
        return interop_keras.stack_to_keras(self)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """Take torch.nn's names too: the state_dict of a torch.nn.RNN, LSTM or GRU of this shape."""
        interop_torch.from_torch_names(self, state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *rest)

    # --- which backend ------------------------------------------------------------------------------------------------

    def explain(self, x: Tensor | None = None, lengths: Tensor | Sequence[int] | None = None) -> str:
        """Which backend runs this stack for an input like x (default: ten steps of one sequence), and why.

        Raises:
            ValueError: if the backend that was asked for cannot.
        """
        return explain(self, x, lengths)

    # --- layout -------------------------------------------------------------------------------------------------------

    def time_major(self, x: Tensor) -> Tensor:
        """[B, T, *] <-> [T, B, *] where the stack is batch_first."""
        return x.transpose(0, 1) if self.batch_first and x.dim() > 1 else x

    def extra_repr(self) -> str:
        """What its layers do not show."""
        return f"{self.input_size}, output_size={self.output_size}, link={self.link}, backend={self.backend}"
