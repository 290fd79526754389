"""Depth inside the hidden unit: one time step that is several transitions deep."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from deep_rnn.cells.base import NO_NOISE, Cell, Noise, is_untouched
from deep_rnn.cells.norm import GateNorm


class TransitionCell(Cell):
    """A cell of ``transition_depth`` transitions a step (deep transition, Pascanu et al. 2014), normalised or not.

        s_1 = f_1(x_t, s_{t-1})         f the cell's equations, each f_k with recurrent parameters of its own
        s_k = f_k(0, s_{k-1})           k = 2 ... n; no input of its own (for GRUs: Miceli Barone et al. 2017)
        s_t = s_n

    With ``shortcut`` the last transition reads ``V h_{t-1}`` in place of its missing input: a path through time that
    skips the transitions between (the paper's DT(S)-RNN). For the plain RNN this is the paper's own formula
    ``h_t = f(U_n f(U_{n-1} ... f(U_1 h_{t-1} + W x_t)))``; in gated cells whole gated transitions follow each other.

    Parameters of transition k end in ``_k`` (``weight_hh_2``), those of the first have the usual names.

    Args:
        layer_norm: normalise the products (Ba et al. 2016); each cell says where.
        transition_depth: n, 1 for the plain cell.
        shortcut: whether h_{t-1} also enters the last transition; needs at least two.
    Raises:
        ValueError: for a depth below 1, or a shortcut past nothing.
    """

    norm_groups: ClassVar[tuple[int, ...]] = ()  # gates normalised together in each product; (): none

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        layer_norm: bool = False,
        transition_depth: int = 1,
        shortcut: bool = False,
        **common: Any,
    ) -> None:
        if transition_depth < 1:
            raise ValueError(f"transition_depth must be at least 1, not {transition_depth}")
        if shortcut and transition_depth == 1:
            raise ValueError("shortcut skips transitions: it needs a transition_depth of at least 2")
        super().__init__(input_size, hidden_size, **common)
        self.layer_norm, self.transition_depth, self.shortcut = layer_norm, transition_depth, shortcut
        self.parts = ("", *(f"_{k}" for k in range(2, transition_depth + 1)))  # suffix of each transition's parameters
        rows = self.weight_hh.shape[0]
        for part in self.parts[1:]:
            setattr(self, f"weight_hh{part}", self.parameter(rows, hidden_size))
            setattr(self, f"bias_hh{part}", None if self.bias_hh is None else self.parameter(rows))
        products = [f"hh{part}" for part in self.parts]
        if shortcut:
            self.weight_hh_shortcut = self.parameter(rows, hidden_size)
            products.append("hh_shortcut")
        if layer_norm and self.norm_groups:
            for name in ["ih", *products]:
                setattr(self, f"norm_{name}", GateNorm(hidden_size, self.norm_groups, **self.factory))
        self.fused_names = ("weight_ih", "bias_ih", *self.recurrent_names(), *(self.norm_names() if layer_norm else ()))

    def step(self, gates: Tensor, state: Any, noise: Noise = NO_NOISE) -> Any:
        """See the class."""
        new = self.transition(gates, state, noise)
        for level in range(1, self.transition_depth):
            if self.shortcut and level == self.transition_depth - 1:
                gates = self.recurrent(state.h, noise, part="_shortcut")
            else:
                gates = torch.zeros_like(gates)
            new = self.transition(gates, new, noise, level)
        return new

    def transition(self, gates: Tensor, state: Any, noise: Noise, level: int = 0) -> Any:
        """The cell's equations, by the recurrent parameters of transition ``level`` (from 0)."""
        raise NotImplementedError

    def recurrent_names(self) -> list[str]:
        """The recurrent parameters of every transition, and the shortcut's."""
        return [*(f"{name}{part}" for part in self.parts for name in ("weight_hh", "bias_hh")), "weight_hh_shortcut"]

    def norm_names(self) -> list[str]:
        """The norms' parameters as the fused kernels know them: of the products, and in the middle of a step."""
        of_products = [f"norm_{name}.weight" for name in ("ih", *(f"hh{part}" for part in self.parts))]
        return of_products + [f"norms.{k}.{name}" for k in range(len(self.parts)) for name in ("weight", "bias")]

    def altered_step(self) -> str | None:
        """See ``Cell``."""
        if len(self.parts) != self.transition_depth or self.shortcut != hasattr(self, "weight_hh_shortcut"):
            return f"the transitions of this {type(self).__name__} are not those it was made with"
        return None

    @property
    def signature(self) -> Any:
        """See ``Cell``; here quick where nothing is normalised."""
        own = self.__dict__
        modules = own["_modules"]
        if own["layer_norm"] or len(modules) != 1 or "norms" not in modules:
            return super().signature
        return (own["_edits"], *map(type, modules["norms"]._modules.values()))

    def altered_norm(self) -> str | None:
        """See ``Cell``; here also the norms in the middle of a step."""
        norms = self._modules.get("norms")
        for norm in () if norms is None else norms._modules.values():
            kind: type[nn.Module] = nn.LayerNorm if self.layer_norm else nn.Identity
            if not is_untouched(norm, kind):
                return f"one of its norms is no {kind.__name__}, or has hooks"
            if self.layer_norm and (norm.eps, norm.normalized_shape, norm.weight is None) != (  # type: ignore[union-attr]
                1e-5,
                (self.hidden_size,),
                False,
            ):
                return f"one of its norms is no LayerNorm({self.hidden_size}) with an eps of 1e-5"
        if self.layer_norm or any(name.startswith("norm_") for name in self._modules):
            return super().altered_norm()
        return None

    @property
    def plain(self) -> bool:
        """Whether one step is what torch.nn computes: one transition, not normalised."""
        return self.transition_depth == 1 and not self.layer_norm
