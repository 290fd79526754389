"""From what a user writes (one value, or a list with one a layer) to a maker of each layer's cells."""

import inspect
from collections.abc import Callable, Sequence
from numbers import Integral
from typing import Any

from deep_rnn.cells import Cell, find_cell
from deep_rnn.init import initialise
from deep_rnn.naming import did_you_mean

MakeCell = Callable[..., Cell]  # (input_size, init, forget_bias, horizon, **common) -> an initialised cell


def per_layer(name: str, value: Any, num_layers: int) -> list[Any]:
    """A list with one value a layer.

    Raises:
        ValueError: for a list of another length.
    """
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [value] * num_layers
    if len(value) != num_layers:
        raise ValueError(f"{name} lists {len(value)} values for {num_layers} layers: {list(value)}")
    return list(value)


def options_of(cell: type[Cell]) -> set[str]:
    """The options that a cell takes beyond those common to all: keyword-only arguments of its constructor."""
    common = set(inspect.signature(Cell).parameters)
    return {
        parameter.name
        for parameter in inspect.signature(cell).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in common
    }


def build_cells(cell: Any, hidden_size: Any, num_layers: int, options: dict[str, Any]) -> list[MakeCell]:
    """One maker of cells a layer.

    An option goes to the layers whose cell takes it, so that mixed stacks can be described in one call.

    Raises:
        ValueError: for sizes below 1, unknown cells, lists of the wrong length.
        TypeError: for an option that no cell of the stack takes.
    """
    classes = [find_cell(one) for one in per_layer("cell", cell, num_layers)]
    sizes = per_layer("hidden_size", hidden_size, num_layers)
    known = set().union(*(options_of(one) for one in classes))
    for name in options:
        if name not in known:
            cells = ", ".join(sorted({one.__name__ for one in classes}))
            raise TypeError(f"{cells} has no option {name!r}{did_you_mean(name, known) if known else ''}")
    spread = {name: per_layer(name, value, num_layers) for name, value in options.items()}
    makers = []
    for index, (one, size) in enumerate(zip(classes, sizes, strict=True)):
        if not isinstance(size, Integral) or size < 1:
            raise ValueError(f"hidden_size must be a whole number of at least 1, not {size}")
        own = {name: values[index] for name, values in spread.items() if name in options_of(one)}
        makers.append(maker(one, int(size), own))
    return makers


def maker(cell: type[Cell], size: int, options: dict[str, Any]) -> MakeCell:
    """A function that builds one initialised cell for a given input size."""

    def make(input_size: int, init: str, forget_bias: float | None, horizon: int, **common: Any) -> Cell:
        built = cell(input_size, size, **options, **common)
        initialise(built, init, forget_bias, horizon)
        return built

    return make
