"""Print the book's table of cells, from the registry: ``python scripts/cell_table.py``."""

import inspect

from deep_rnn import CELLS, DeepRNN
from deep_rnn.specification import options_of


def row(name: str) -> str:
    """One cell: name, what it is and who wrote it, own options, state, whether it is fused, parameters."""
    cell = CELLS[name]
    what = inspect.getdoc(cell).split("\n\n")[0].replace("\n", " ").rstrip(".:")  # type: ignore[union-attr]
    options = ", ".join(f"`{option}`" for option in sorted(options_of(cell))) or "–"
    rnn = DeepRNN(64, 64, cell=name, device="meta")
    count = sum(parameter.numel() for parameter in rnn.parameters())
    fields = ", ".join(rnn.layers[0].cell.State._fields)
    fused = "yes" if rnn.layers[0].cell.fused_mode else "–"
    return f"| `{name}` | {what} | {options} | {fields} | {fused} | {count:,} |"


def table() -> str:
    """The whole table in Markdown, common cells first."""
    first = ["rnn", "lstm", "gru"]
    names = first + sorted(set(CELLS) - set(first))
    head = "| `model=` | cell | own options | state | fused on CPU | parameters at 64 -> 64 |\n|" + "---|" * 6
    return "\n".join([head, *(row(name) for name in names)])


if __name__ == "__main__":
    print(table())
