"""What the generic tests of cells run over: every registered cell, its options, and a user's own cell."""

from typing import Any, NamedTuple

import torch

from deep_rnn import DeepRNN
from deep_rnn.cells import CELLS

OWN_CELL = "own_cell.LeakyIntegrator"
DEEP: list[dict[str, Any]] = [
    {"layer_norm": True},
    {"transition_depth": 3},
    {"transition_depth": 2, "shortcut": True},
    {"transition_depth": 3, "shortcut": True, "layer_norm": True},
]
OPTIONS: dict[str, list[dict[str, Any]]] = {  # beside its defaults, the options with which a cell is tested
    "rnn": [{"activation": "relu"}, {"activation": "gelu"}, *DEEP],
    "lstm": DEEP,
    "gru": [
        {"reset_after": False},
        {"reset_after": False, "layer_norm": True, "transition_depth": 2, "shortcut": True},
        *DEEP,
    ],
    "lstmp": [{"proj_size": 1}],
    "janet": [{"beta": 0.0}],
    "slstm": [{"heads": 2}, {"exponential_forget": True}],
    "indrnn": [{"activation": "tanh"}],
    "fo_pool": [{"window": 2}, {"window": 3}],
    "mingru": [{"positive": True}],
    "minlstm": [{"positive": True}],
    "rhn": [{"transition_depth": 1}],
    "cornn": [{"dt": 0.2, "gamma": 1.0, "epsilon": 0.5}],
    "lem": [{"dt": 0.5}],
    "antisymmetric": [{"gated": True, "epsilon": 0.3, "gamma": 0.1}],
}


class Case(NamedTuple):
    """A cell and its options."""

    cell: str
    options: dict[str, Any]

    def __str__(self) -> str:
        return "-".join([self.cell, *(f"{name}={value}" for name, value in self.options.items())])

    def build(self, size: int | list[int] = 4, layers: int = 1, **arguments: Any) -> DeepRNN:
        """A stack of this cell over 3 inputs, in float64 unless said otherwise."""
        settings = {"dtype": torch.double} | arguments | self.options
        return DeepRNN(3, size, layers, self.cell, **settings)


CASES = [Case(name, options) for name in [*CELLS, OWN_CELL] for options in [{}, *OPTIONS.get(name, [])]]
PLAIN = [case for case in CASES if not case.options]


def batch(time: int = 6, size: int = 3, dtype: torch.dtype = torch.double) -> torch.Tensor:
    """Inputs [T, B, 3]."""
    return torch.randn(time, size, 3, dtype=dtype)


def warm_state(rnn: DeepRNN, size: int = 3) -> Any:
    """A state that the stack can reach: where it is after two steps."""
    with torch.no_grad():
        state = rnn.initial_state(size)
        x = torch.randn(2, size, rnn.input_size, dtype=torch.double).to(rnn.layers[0].cell.weight_ih.dtype)
        if rnn.bidirectional:
            halves = [[pair[k] for pair in state.layers] for k in range(2)]
            return tuple(zip(*(advance(rnn, x, half, k) for k, half in enumerate(halves)), strict=True))
        return tuple(advance(rnn, x, state.layers, 0))


def advance(rnn: DeepRNN, x: torch.Tensor, states: Any, direction: int) -> list[Any]:
    """The states of one direction's cells after the steps of x, each cell fed with x cut or padded to its inputs."""
    ended = []
    for layer, state in zip(rnn.layers, states, strict=True):
        cell = layer.cells[direction]
        wide = torch.nn.functional.pad(x, (0, max(cell.input_size - x.shape[-1], 0)))[..., : cell.input_size]
        for gates in cell.project(wide):
            state = cell.step(gates, state)
        ended.append(state)
    return ended
