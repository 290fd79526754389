"""Recurrent cells, one family a file, all in one registry: ``CELLS[name]``."""

import importlib

from deep_rnn.cells import (  # noqa: F401  (importing a family registers it)
    dynamical,
    elementwise,
    gru,
    gru_variants,
    highway,
    lstm,
    lstm_variants,
    rnn,
    slstm,
)
from deep_rnn.cells.base import ACTIVATIONS, CELLS, NO_NOISE, Cell, HiddenState, Noise, register
from deep_rnn.naming import unknown

__all__ = ["ACTIVATIONS", "CELLS", "NO_NOISE", "Cell", "HiddenState", "Noise", "find_cell", "register"]


def find_cell(cell: str | type[Cell]) -> type[Cell]:
    """The class of a cell given by registered name, by dotted path (``package.module.Class``), or itself.

    Raises:
        ValueError: for an unknown name, or a path that leads to no Cell.
    """
    if isinstance(cell, type) and issubclass(cell, Cell):
        return cell
    if not isinstance(cell, str):
        raise ValueError(f"a cell is a name or a subclass of Cell, not {cell!r}")
    if cell in CELLS:
        return CELLS[cell]
    module, dot, name = cell.rpartition(".")
    if not dot:
        raise unknown("cell", cell, CELLS)
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"cell {cell!r} cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Cell)):
        raise ValueError(f"cell {cell!r} is no subclass of deep_rnn.cells.Cell")
    return found
