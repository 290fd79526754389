"""DeepRNN: recurrent layers of any cell, width, link and direction stacked into one module."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from src.kernels import BACKENDS, Call, pick, takes_whole_stack, unroll
from src.kernels.sequence import mask_padding
from src.models import state as states_of
from src.models.cells import Cell
from src.models.dropout import LayerNoise, Rates, check_rate, drop_outputs
from src.models.layer import Layer
from src.models.links import LINKS, Dense, NoLink
from src.models.naming import unknown
from src.models.packing import pack_like, unpack
from src.models.specification import build_cells, per_layer

StackNoise = tuple[LayerNoise, ...]


class Step(NamedTuple):
    """One layer's part in a forward call: what it reads, and the initial states and noise it runs with."""

    states: tuple[Any, ...]
    noise: LayerNoise | None


class DeepRNN(nn.Module):
    """A deep recurrent network: h_t^l = cell^l(h_t^{l-1}, h_{t-1}^l), with links between the layers.

    Called like torch.nn.LSTM: ``output, state = rnn(x, state=None, lengths=None)`` with x [T, B, I] (or [B, T, I] with
    ``batch_first``, [T, I] unbatched, or a PackedSequence) and output [T, B, ``rnn.output_size``]. The state is a tuple
    with one entry a layer, a pair when bidirectional; ``state_to_torch`` and ``state_from_torch`` convert. State passed
    in is used and never changed, so a sequence run in chunks equals the whole (one direction, noise off or handed on).

    Args:
        input_size: I, features of one input step.
        hidden_size: H, features of a layer; a list gives each layer its own.
        num_layers: number of layers.
        cell: name in ``CELLS``, dotted path or subclass of Cell; a list gives each layer its own.
        link: none, residual, highway or dense; see ``src.models.links``.
        bidirectional: whether every layer also runs from the last step to the first.
        merge: concat, sum, mean or mul of the two directions.
        dropout: probability of dropping an output of a layer, all layers but the last as in torch.nn; a list gives one
            a layer, the last included.
        locked_dropout: hold the dropout mask for a whole sequence (Gal & Ghahramani 2016) instead of drawing each step.
        recurrent_dropout: of h before the recurrent product, one mask a sequence (Gal & Ghahramani 2016).
        candidate_dropout: of the candidate update, one mask a sequence (Semeniuta et al. 2016).
        weight_drop: of the recurrent weights, once a forward call (Merity et al. 2018).
        zoneout: probability that a unit keeps its old state (Krueger et al. 2017); a tuple gives one a field.
        bias: whether the cells' products have biases.
        batch_first: whether input and output are [B, T, *]. States are [B, H] either way.
        init: named initialiser of the cells, see ``src.models.init``.
        forget_bias: start of the forget gate's bias; None leaves it to ``init``.
        link_start: the first layer that has the link; the layers below are plain.
        gate_bias: start of a highway link's gate bias.
        learn_state: learn the state before the first step, which starts at zero.
        backend: auto, loop or native; see ``explain``.
        cell_options: options of the cells (``activation="relu"``, ``reset_after=False``); a list gives one a layer.
    Raises:
        ValueError: for an unknown name, a size below 1, a list of the wrong length, a rate outside [0, 1).
        TypeError: for an option that no cell of the stack takes.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        cell: str | type[Cell] | Sequence[str | type[Cell]] = "lstm",
        link: str = "none",
        bidirectional: bool = False,
        merge: str = "concat",
        dropout: float | Sequence[float] = 0.0,
        *,
        locked_dropout: bool = False,
        recurrent_dropout: float = 0.0,
        candidate_dropout: float = 0.0,
        weight_drop: float = 0.0,
        zoneout: float | tuple[float, ...] = 0.0,
        bias: bool = True,
        batch_first: bool = False,
        init: str = "torch",
        forget_bias: float | None = None,
        link_start: int = 0,
        gate_bias: float = -2.0,
        learn_state: bool = False,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **cell_options: Any,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, not {num_layers}")
        if link not in LINKS:
            raise unknown("link", link, LINKS)
        if backend != "auto" and backend not in BACKENDS:
            raise unknown("backend", backend, ["auto", *BACKENDS])
        if not isinstance(dropout, Sequence):
            dropout = [dropout] * (num_layers - 1) + [0.0]
        self.input_size, self.num_layers, self.bidirectional = input_size, num_layers, bidirectional
        self.batch_first, self.link, self.merge, self.backend = batch_first, link, merge, backend
        factory: dict[str, Any] = {"device": device, "dtype": dtype}
        noise = [
            Rates(
                check_rate("dropout", rate),
                check_rate("recurrent_dropout", recurrent_dropout),
                check_rate("candidate_dropout", candidate_dropout),
                check_rate("weight_drop", weight_drop),
            )
            for rate in per_layer("dropout", dropout, num_layers)
        ]
        specification = build_cells(cell, hidden_size, num_layers, cell_options)
        self.layers, self.links = nn.ModuleList(), nn.ModuleList()
        size = input_size
        for index, make in enumerate(specification):
            cells = [make(size, init, forget_bias, bias=bias, **factory) for _ in range(1 + bidirectional)]
            layer = Layer(cells, merge, noise[index], locked_dropout, zoneout, learn_state)
            options = {"gate_bias": gate_bias} if link == "highway" else {}
            link_class = LINKS[link if index >= link_start else "none"]
            self.layers.append(layer)
            self.links.append(link_class(size, layer.output_size, **options, **factory))
            size = self.links[-1].output_size

    @property
    def output_size(self) -> int:
        """Features of the output; with dense links those of all layers together."""
        top: Any = self.links[-1]
        return top.output_size - (self.input_size if self.carries_input else 0)

    @property
    def carries_input(self) -> bool:
        """Whether dense links carry the input up to the output, where it is cut off again: the head sees all layers."""
        return isinstance(self.links[0], Dense)

    # --- the call -----------------------------------------------------------------------------------------------------

    def forward(
        self,
        x: Tensor | PackedSequence,
        state: Sequence[Any] | None = None,
        lengths: Tensor | Sequence[int] | None = None,
        noise: StackNoise | None = None,
    ) -> tuple[Any, tuple[Any, ...]]:
        """Run the stack over a batch of sequences.

        Args:
            x: [T, B, I]; [B, T, I] with batch_first; [T, I] unbatched; or a PackedSequence.
            state: one entry a layer as returned before, tensors [B, H] ([H] unbatched); None: the initial state.
            lengths: [B] valid steps of each sequence, 0 to T; what stands behind them changes nothing.
            noise: masks from ``draw_noise``, to use the same again; None draws new ones in training.
        Returns:
            The output, in the layout of x, zero at padded steps, and the state after each sequence's last valid step.
        Raises:
            ValueError: for shapes, lengths or states that do not fit, or a backend that cannot run this.
        """
        if isinstance(x, PackedSequence):
            if lengths is not None:
                raise ValueError("a PackedSequence brings its own lengths")
            padded, own_lengths = unpack(x)
            output, ended = self.run(padded, state, own_lengths, noise)
            return pack_like(output, x), ended
        if x.dim() == 2:
            one = None if state is None else states_of.map_state(lambda value: value.unsqueeze(0), state)
            count = None if lengths is None else torch.as_tensor(lengths).reshape(1)
            output, ended = self.run(self.checked(x.unsqueeze(1)), one, count, noise)
            return output.squeeze(1), states_of.map_state(lambda value: value.squeeze(0), ended)
        x = self.checked(x.transpose(0, 1) if self.batch_first and x.dim() == 3 else x)
        output, ended = self.run(x, state, lengths, noise)
        return (output.transpose(0, 1) if self.batch_first else output), ended

    def step(
        self, x: Tensor, state: Sequence[Any] | None = None, noise: StackNoise | None = None
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """One time step, x [B, I] (or [I]) -> output [B, output_size] and the state after it: the stack as a cell.

        Raises:
            ValueError: if bidirectional, since the backward direction needs the steps to come.
        """
        if self.bidirectional:
            raise ValueError("a bidirectional stack cannot run step by step: its backward direction needs what is to come")
        if x.dim() == 1:
            output, ended = self(x.unsqueeze(0), state, noise=noise)
            return output.squeeze(0), ended
        output, ended = self.run(self.checked(x.unsqueeze(0)), state, None, noise)
        return output.squeeze(0), ended

    def run(
        self,
        x: Tensor,
        state: Sequence[Any] | None,
        lengths: Tensor | Sequence[int] | None,
        noise: StackNoise | None,
    ) -> tuple[Tensor, tuple[Any, ...]]:
        """``forward`` on time-major batches [T, B, I]."""
        lengths = self.checked_lengths(lengths, x)
        x = mask_padding(x, lengths)
        steps = self.steps(x.shape[1], state, noise)
        whole = self.whole_call(x, lengths, steps)
        if whole is not None and takes_whole_stack(whole, self.backend):
            output, ended = unroll(whole, self.backend)
            return output, states_of.to_outer(ended)
        below, ended = x, ()
        for layer, link, (states, layer_noise) in zip(self.layers, self.links, steps, strict=True):
            result = unroll(layer.call(below, states, lengths, layer_noise), self.backend)
            locked = None if layer_noise is None else layer_noise.output
            out = drop_outputs(layer.merged(result.output), locked, layer.rates.dropout, self.training)
            below = link(below, out)
            ended += result.states
        output = below[..., self.input_size :] if self.carries_input else below
        if self.link != "none":
            output = mask_padding(output, lengths)  # a link's projection and bias speak at padded steps too
        return output, states_of.to_outer(ended)

    # --- state and noise ----------------------------------------------------------------------------------------------

    def initial_state(self, batch_size: int) -> tuple[Any, ...]:
        """The state before the first step, as ``forward`` takes it: zeros, or what was learned."""
        states = tuple(layer.initial_state(batch_size) for layer in self.layers)
        return tuple(directions[0] if len(directions) == 1 else directions for directions in states)

    def draw_noise(self, batch_size: int) -> StackNoise:
        """Masks that hold for a whole sequence (locked, recurrent, candidate, weights), to be handed to ``forward``."""
        return tuple(layer.draw_noise(batch_size) for layer in self.layers)

    @staticmethod
    def detach(state: tuple[Any, ...]) -> tuple[Any, ...]:
        """The state cut from its history, for truncated back-propagation."""
        return states_of.detach(state)

    @staticmethod
    def state_to_torch(state: tuple[Any, ...]) -> Any:
        """A state as torch.nn has it: h [L*D, B, H], or (h, c)."""
        return states_of.to_torch(state)

    def state_from_torch(self, state: Any) -> tuple[Any, ...]:
        """torch.nn's h, or (h, c), as a state of this stack."""
        return states_of.from_torch(state, list(self.layers))

    # --- which backend ------------------------------------------------------------------------------------------------

    def explain(self, x: Tensor | None = None, lengths: Tensor | Sequence[int] | None = None) -> str:
        """Which backend runs this stack for an input like x (default: ten steps of one sequence), and why; a line a layer.

        Raises:
            ValueError: if the backend that was asked for cannot.
        """
        parameter = next(self.parameters())
        if x is None:
            x = parameter.new_zeros(10, 1, self.input_size)
        elif x.dim() == 2:
            x = x.unsqueeze(1)
        elif self.batch_first:
            x = x.transpose(0, 1)
        lengths = self.checked_lengths(lengths, x)
        steps = self.steps(x.shape[1], None, None)
        whole = self.whole_call(x, lengths, steps)
        if whole is not None and takes_whole_stack(whole, self.backend):
            name, reason = pick(whole, self.backend)
            return f"layers 0-{self.num_layers - 1} in one call: {name} ({reason})"
        lines = []
        size = self.input_size
        for index, (layer, link, step) in enumerate(zip(self.layers, self.links, steps, strict=True)):
            below = x.new_empty(*x.shape[:2], size)
            name, reason = pick(layer.call(below, step.states, lengths, step.noise), self.backend)
            lines.append(f"layer {index}: {name} ({reason})")
            size = link.output_size
        return "\n".join(lines)

    def whole_call(self, x: Tensor, lengths: Tensor | None, steps: list[Step]) -> Call | None:
        """All layers as one call, or None where something happens between them that a backend does not see."""
        rates = [layer.rates.dropout for layer in self.layers]
        between = set(rates[:-1])
        plain = all(isinstance(link, NoLink) for link in self.links) and (not self.bidirectional or self.merge == "concat")
        locked = any(step.noise is not None and step.noise.output is not None for step in steps)
        if self.num_layers == 1 or not plain or locked or len(between) > 1 or rates[-1] > 0:
            return None
        calls = [layer.call(x, step.states, lengths, step.noise) for layer, step in zip(self.layers, steps, strict=True)]
        return calls[0]._replace(
            layers=tuple(call.layers[0] for call in calls),
            states=tuple(call.states[0] for call in calls),
            noises=tuple(noise for call in calls for noise in call.noises),
            dropout=between.pop(),
        )

    def steps(self, batch_size: int, state: Sequence[Any] | None, noise: StackNoise | None) -> list[Step]:
        """Initial states and noise of every layer for one forward call."""
        if noise is None and self.training and any(any(layer.rates) for layer in self.layers):
            noise = self.draw_noise(batch_size)
        if state is None:
            states = tuple(layer.initial_state(batch_size) for layer in self.layers)
        else:
            states = states_of.to_inner(state, list(self.layers), batch_size)
        return [Step(states[k], None if noise is None else noise[k]) for k in range(self.num_layers)]

    # --- checks -------------------------------------------------------------------------------------------------------

    def checked(self, x: Tensor) -> Tensor:
        """x [T, B, I] itself, after a look at its shape."""
        if x.dim() != 3 or x.shape[-1] != self.input_size:
            layout = "[batch, time, input_size]" if self.batch_first else "[time, batch, input_size]"
            raise ValueError(f"x must be {layout} with input_size={self.input_size}, not {list(x.shape)}")
        return x

    @staticmethod
    def checked_lengths(lengths: Tensor | Sequence[int] | None, x: Tensor) -> Tensor | None:
        """Lengths as int64 [B] on x's device; values are looked at only where that needs no wait for a GPU."""
        if lengths is None:
            return None
        lengths = torch.as_tensor(lengths)
        if lengths.shape != (x.shape[1],):
            raise ValueError(f"lengths must have shape [{x.shape[1]}], one a sequence, not {list(lengths.shape)}")
        if lengths.device.type == "cpu" and lengths.numel() and not 0 <= lengths.min() <= lengths.max() <= x.shape[0]:
            raise ValueError(f"lengths must be from 0 to {x.shape[0]}, not {lengths.min()} to {lengths.max()}")
        return lengths.to(x.device, torch.int64)

    def extra_repr(self) -> str:
        """What its layers do not show."""
        return f"{self.input_size}, output_size={self.output_size}, link={self.link}, backend={self.backend}"
