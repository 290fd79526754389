"""The contract of a recurrent cell, and the registry that every cell enters by its name.

A cell is the mathematics of one step and never loops over time. It is split in two so that the part that does not
depend on the state becomes one matrix product for the whole sequence:

    gates = cell.project(x)             [T, B, I] -> [T, B, G*H]   all time steps at once
    state = cell.step(gates[t], state)  one step; the written truth of the cell's equations
    h     = cell.output(state)          [B, H]

after the (step, initial_state) contract of dm-haiku and Sonnet. How the steps are strung together is the business
of ``deep_rnn.kernels``; how layers are strung together that of ``DeepRNN``.

Shape letters: T time, B batch, I input size, H hidden size, G gates.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deep_rnn.cells.norm import GateNorm
from deep_rnn.hooks import is_hooked


class Noise(NamedTuple):
    """What is random about a cell for the length of one sequence; None leaves a value as it is.

    Masks hold 0 or 1/keep. They are drawn once a forward call (``DeepRNN.draw_noise``) and hold for every step, so a
    sequence cut in chunks sees the same noise when the same object is handed on.
    """

    state: Tensor | None = None  # [B, H] on h before the recurrent product (Gal & Ghahramani 2016)
    candidate: Tensor | None = None  # [B, H] on the candidate update (Semeniuta et al. 2016)
    # By parameter name: masks as drawn and handed on; what a cell's step gets is the weights with entries dropped.
    weights: Mapping[str, Tensor] | None = None  # weight drop (Merity et al. 2018)


NO_NOISE = Noise()

# What a subclass of a cell may have of its own and still compute what the cell computes.
HARMLESS = {
    *("__module__", "__qualname__", "__doc__", "__annotations__", "__parameters__", "__orig_bases__"),
    *("__firstlineno__", "__static_attributes__", "__init__", "__getstate__", "__setstate__", "__deepcopy__"),
    *("settle", "constrain", "extra_repr", "forget_gate", "input_gate"),
}
CONSTRUCTED = frozenset(("fused_names", "State", "gates"))  # what constructors of cells set over the class's own
CALLED = frozenset(("forward",))  # what is called, where it was replaced
PLAIN = (Tensor, nn.Parameter)  # no tensors whose parts lie elsewhere


class HiddenState(NamedTuple):
    """The state of a cell that carries nothing but its output: ``h`` [B, H]."""

    h: Tensor


class Cell(nn.Module):
    """Base of all cells; a subclass names its gates and its state, and writes ``step``.

    Parameters are named as torch.nn names them: ``weight_ih`` [G*H, I], ``weight_hh`` [G*H, H], ``bias_ih`` and
    ``bias_hh`` [G*H], gates stacked in the order of ``gates``. A further recurrent product has the same names with a
    suffix (``weight_hh_z``): initialisers, weight drop and ``recurrent`` go by them.

    Args:
        input_size: I, features of one input step.
        hidden_size: H, features of the hidden state.
        bias: whether the products have biases.
    """

    gates: tuple[str, ...]  # of the input projection, in the order in which they are stacked
    recurrent_gates: ClassVar[tuple[str, ...] | None] = None  # of the recurrent product; None: the same as `gates`
    recurrent_bias: ClassVar[bool] = True  # whether the recurrent product has a bias of its own, as torch.nn's cells do
    noises: ClassVar[tuple[str, ...]] = ("state", "candidate")  # the masks of Noise that mean something to this cell
    forget_gate: ClassVar[str | None] = None  # the gate that keeps the memory: forget_bias and chrono set its bias
    input_gate: ClassVar[str | None] = None  # the gate that lets the candidate in, where it is another: chrono sets it
    zoneable: ClassVar[tuple[str, ...] | None] = None  # fields of the state that zoneout may hold; None: all
    # Names of the parameters that the fused kernel reads; those that are None are left out.
    fused_names: tuple[str, ...] = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    State: Any = HiddenState  # a NamedTuple whose fields are float tensors [B, *], the output first

    def __init_subclass__(cls, **options: Any) -> None:
        """A subclass that has anything of its own is no longer what others compute of it, unless it says so."""
        super().__init_subclass__(**options)
        for mode in ("native_mode", "fused_mode"):
            for one in cls.__mro__:  # what differs may also come from a class that is mixed in
                if mode in one.__dict__:
                    break
                if one.__module__.startswith("torch."):  # what torch mixes in, such as FSDPModule, computes nothing
                    continue
                if one.__dict__.keys() - HARMLESS:
                    setattr(cls, mode, None)
                    break

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name.startswith("weight_hh") and isinstance(value, nn.Parameter):
            self.note_recurrent(name, value)
        if name != "training" and not isinstance(value, Tensor):
            self.__dict__["_edits"] = self.__dict__.get("_edits", 0) + 1

    def __delattr__(self, name: str) -> None:
        super().__delattr__(name)
        self.__dict__["_edits"] = self.__dict__.get("_edits", 0) + 1

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold: of weights that a hook left here, and makes anew for each call, the values."""
        state = dict(super().__getstate__())
        left = {name: value for name, value in state.items() if isinstance(value, Tensor) and not value.is_leaf}
        return state | {name: value.detach() for name, value in left.items()}

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        self.factory: dict[str, Any] = {"device": device, "dtype": dtype}
        self._recurrent_weights: dict[str, torch.Size] = {}
        self.norm_ih: nn.Module | None = None  # a GateNorm, where a cell normalises its products
        self.norm_hh: nn.Module | None = None
        recurrent = self.gates if self.recurrent_gates is None else self.recurrent_gates
        self.weight_ih = self.parameter(len(self.gates) * hidden_size, input_size)
        if recurrent:
            self.weight_hh = self.parameter(len(recurrent) * hidden_size, self.output_size)
        self.bias_ih = self.parameter(len(self.gates) * hidden_size) if bias else None
        own_bias = bias and bool(recurrent) and self.recurrent_bias
        self.bias_hh = self.parameter(len(recurrent) * hidden_size) if own_bias else None

    def note_recurrent(self, name: str, weight: Tensor) -> None:
        """Keep name and shape of a recurrent matrix: pruned or parametrised, it is no parameter any more."""
        suffixed = name.rpartition("_")[-1] in ("orig", "g", "v") and name.rpartition("_")[0] in self._recurrent_weights
        others = {one: shape for one, shape in self._recurrent_weights.items() if one != name}
        if not suffixed:
            self._recurrent_weights = {**others, name: weight.shape} if weight.dim() == 2 else others

    def parameter(self, *shape: int) -> nn.Parameter:
        """An uninitialised parameter on the cell's device, in its dtype."""
        return nn.Parameter(torch.empty(*shape, **self.factory))

    # --- the contract -------------------------------------------------------------------------------------------------

    def project(self, x: Tensor) -> Tensor:
        """Everything of the gates that needs no state: ``x W_ih^T + b_ih``, [..., I] -> [..., G*H]."""
        return product(x, self.weight_ih, self.bias_ih, self.norm_ih)

    def step(self, gates: Tensor, state: Any, noise: Noise = NO_NOISE) -> Any:
        """One time step: projected ``gates`` [B, G*H] and the state before it -> the state after it."""
        raise NotImplementedError

    def output(self, state: Any) -> Tensor:
        """What the layer above sees of a state, [B, output_size]."""
        return state[0]

    def initial_state(self, batch_size: int) -> Any:
        """The state before the first step: zeros, in the parameters' dtype and device."""
        like = self.like
        return self.State(*[like.new_zeros(batch_size, size) for size in self.state_sizes])

    def forward(self, x: Tensor, state: Any = None, *, unroll: Callable[[Any, Tensor, Any], Any]) -> Any:
        """One direction over whole sequences: how a layer calls a cell that has hooks.

        Args:
            x: [T, B, I], from the first step to the last, of the backward direction too.
            state: before the first step that the cell sees; None: ``initial_state``.
            unroll: runs a cell over x from a state; a cell does not loop over time.
        Returns:
            The output [T, B, output_size] and the state after the last step that the cell sees.
        """
        return unroll(self, x, self.initial_state(x.shape[1]) if state is None else state)

    @property
    def like(self) -> Tensor:
        """A tensor of the weights' dtype and device, found without computing a weight that is made from others."""
        weight = self._parameters.get("weight_ih")
        if weight is None:
            weight = next(self.parameters())
        if type(weight) in PLAIN:
            return weight
        return torch.empty(0, dtype=weight.dtype, device=weight.device)

    # --- what subclasses may need to say ------------------------------------------------------------------------------

    @property
    def output_size(self) -> int:
        """Features of ``output``."""
        return self.hidden_size

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """Features of each field of the state."""
        return (self.output_size,) + (self.hidden_size,) * (len(self.State._fields) - 1)

    @property
    def recurrent_weights(self) -> tuple[str, ...]:
        """Names of the recurrent matrices, which weight drop drops, as the cell made them."""
        return tuple(self._recurrent_weights)

    @property
    def recurrent_shapes(self) -> Mapping[str, torch.Size]:
        """Their shapes, which are known also while a weight is sharded or not yet computed."""
        return self._recurrent_weights

    @property
    def native_mode(self) -> str | None:
        """The name of the same cell in torch's own fused layers (LSTM, GRU, RNN_TANH, RNN_RELU), if there is one."""
        return None

    @property
    def fused_mode(self) -> str | None:
        """The name of the cell among the fused CPU kernels (``kernels/csrc/registry_impl.h``), if it is there."""
        return None

    @property
    def fused_constants(self) -> tuple[float, ...]:
        """Numbers in the cell's equations that the fused kernel is told."""
        return ()

    def fused_weights(self, noise: Noise | None = None) -> dict[str, Tensor]:
        """What the fused kernel reads, by name, as weight drop left it."""
        dropped = (noise.weights if noise is not None else None) or {}
        own, named = self._parameters, {}  # getattr would search for each: 4 us a layer
        for name in self.fused_names:
            value = dropped.get(name, own[name] if name in own else attribute(self, name))
            if value is not None:
                named[name] = value
        return named

    def unfused(self, named: dict[str, Tensor]) -> dict[str, Tensor]:
        """Parameters by name that ``fused_weights`` makes ``named`` of: what second derivatives are taken through."""
        return named

    # --- whether it still is what the modes say -----------------------------------------------------------------------

    @property
    def altered(self) -> str | None:
        """Why this one's steps may not be what its modes name (it was edited after its class was written), or None."""
        kind = type(self)
        for name in self.__dict__:
            if not name.startswith("_") and name not in CONSTRUCTED | CALLED and hasattr(kind, name):
                return f"the {name} of this {kind.__name__} was replaced"
        if self.bias != (getattr(self, "bias_ih", None) is not None):
            return f"the biases of this {kind.__name__} are not those it was made with"
        return self.altered_step() or self.altered_norm()

    def altered_step(self) -> str | None:
        """Why a step may not be what the options of this kind of cell say, or None."""
        return None

    def altered_norm(self) -> str | None:
        """Why the norms of the products are not those that the modes mean, or None."""
        groups = getattr(self, "norm_groups", ())
        there = {name: norm for name, norm in self._modules.items() if name.startswith("norm_")}
        sizes = [count * self.hidden_size for count in groups]
        for name, norm in there.items():
            if not is_untouched(norm, GateNorm) or norm.sizes != sizes:  # type: ignore[union-attr]
                return f"{name} is no GateNorm of groups {groups}, or has hooks"
        wanted = {name.partition(".")[0] for name in self.fused_names if name.startswith("norm_")} if groups else set()
        if wanted != there.keys() - {"norm_hh_shortcut"}:  # which no kernel has
            return f"the norms of this {type(self).__name__} are not those it was made with"
        return None

    @property
    def signature(self) -> Any:
        """Changes with all that ``altered`` and the modes look at: what a remembered choice of a backend stands on."""
        edits, modules = self.__dict__.get("_edits", 0), self._modules
        if not modules:
            return edits
        found: list[Any] = [edits]
        for module in modules.values():
            for norm in module._modules.values() if type(module) is nn.ModuleList else (module,):
                found.append(type(norm))
                if norm is not None and type(norm) is not nn.Identity:
                    own = vars(norm)
                    found += (own.get("eps"), own.get("normalized_shape"), *own.get("sizes", ()), is_hooked(norm))
        return tuple(found)

    def settle(self) -> None:
        """Called after the named initialiser: what the cell's paper prescribes whatever the initialiser."""

    def constrain(self) -> None:
        """Called without gradients after every update of the weights: puts back what the cell's paper keeps in bounds.

        The training loop does that; a loop of one's own calls it under ``torch.no_grad``, for the cells that have it.
        """

    # --- what subclasses use ------------------------------------------------------------------------------------------

    def recurrent(self, h: Tensor, noise: Noise, rows: slice = slice(None), part: str = "") -> Tensor:
        """The recurrent product ``h W_hh^T + b_hh`` (or some of its rows) under this sequence's noise, -> [B, G*H].

        Args:
            part: suffix of the weight, the bias and the norm where a cell has several recurrent products.
        """
        if noise.state is not None:
            h = h * noise.state
        bias, norm = getattr(self, f"bias_hh{part}", None), getattr(self, f"norm_hh{part}", None)
        return product(h, self.matrix(f"weight_hh{part}", noise), bias, norm, rows)

    def matrix(self, name: str, noise: Noise) -> Tensor:
        """A recurrent weight as weight drop left it for this sequence."""
        dropped = (noise.weights or {}).get(name)
        return getattr(self, name) if dropped is None else dropped

    def gate(self, parameter: Tensor, name: str) -> Tensor:
        """The rows of a stacked weight or bias that belong to one gate, as a view."""
        return parameter[self.gates.index(name) * self.hidden_size :][: self.hidden_size]

    @torch.no_grad()
    def set_gate_bias(self, gate: str | None, value: float | Tensor) -> None:
        """Set what a gate's biases add up to, in every transition of a step; no gate or no biases: nothing to do."""
        for key, bias in self.named_parameters():
            if gate is not None and key.startswith("bias"):
                self.gate(bias, gate).copy_(torch.as_tensor(0.0 if key == "bias_hh" else value))

    def extra_repr(self) -> str:
        """Sizes, as ``repr`` shows them."""
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


def is_untouched(module: Any, kind: type[nn.Module]) -> bool:
    """Whether a module is of just this kind (its weights may be parametrised) and computes what the kind does."""
    own = type(module).__bases__[0] if hasattr(module, "parametrizations") else type(module)
    return own is kind and not is_hooked(module)


def attribute(module: Any, name: str) -> Any:
    """An attribute by its dotted name, None if it is not there."""
    if "." not in name:
        return getattr(module, name, None)
    for part in name.split("."):
        module = getattr(module, part, None)
    return module


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """``F.linear`` whose result has the weight's dtype.

    Under autocast the product runs in half precision while state and gate arithmetic stay in float32: a state that is
    rounded to 8 bits at every step drifts over a thousand of them.
    """
    return F.linear(x, weight, bias).to(weight.dtype)


def product(
    x: Tensor, weight: Tensor, bias: Tensor | None, norm: nn.Module | None = None, rows: slice = slice(None)
) -> Tensor:
    """``norm(x W^T) + b``, or some of its rows."""
    if norm is None:
        return linear(x, weight[rows], None if bias is None else bias[rows])
    normed = norm(linear(x, weight[rows], None), rows)
    return normed if bias is None else normed + bias[rows]


def drop(candidate: Tensor, noise: Noise) -> Tensor:
    """The candidate update under recurrent dropout without memory loss (Semeniuta et al. 2016)."""
    return candidate if noise.candidate is None else candidate * noise.candidate


CELLS: dict[str, type[Cell]] = {}


def register(name: str) -> Callable[[type[Cell]], type[Cell]]:
    """Enter a cell class in ``CELLS`` under ``name``, the name by which DeepRNN and the command line know it."""

    def enter(cls: type[Cell]) -> type[Cell]:
        CELLS[name] = cls
        return cls

    return enter


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "gelu": F.gelu,
    "silu": F.silu,
    "softsign": F.softsign,
    "leaky_relu": F.leaky_relu,
    "hardtanh": F.hardtanh,
    "identity": lambda x: x,
}
