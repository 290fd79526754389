"""The table in words: Markdown, CSV, and on a terminal."""

from typing import Any

import pandas as pd
from rich.table import Table

from src.sweeps.report.runs import DONE
from src.sweeps.report.table import Comparison, states_of

COLOURS = {"DONE": "green", "FAILED": "red", "PRUNED": "yellow", "running": "cyan", "cut off": "magenta"}


def headline(found: Comparison) -> str:
    """How many runs there are, how they stand, and what they are ranked by."""
    baseline = "" if found.baseline is None else f"; trivial baseline {found.baseline:.4g}"
    best = "highest" if found.metric.mode == "max" else "lowest"
    runs = f"{len(found.runs)} run{'s' if len(found.runs) != 1 else ''}"
    states = states_of([(run.state, run.reason) for run in found.runs])
    return f"{runs}: {states}. Ranked by {found.metric.name}, {best} first{baseline}."


def cells_of(found: Comparison) -> list[list[str]]:
    """The ranked table as text, with its head; a value that no finished run stands behind is marked by a tilde."""
    results = ["state", "mean", "std", "lowest", "highest", "epoch", "params", "seconds"]
    rows = [["rank", *found.choices.values(), *results]]
    for rank, row in enumerate(found.table.to_dict("records"), start=1):
        so_far = "" if row["done"] else "~"
        rows.append(
            [
                str(rank),
                *(show(row[label]) for label in found.choices.values()),
                row["state"],
                *(show(row[name], "{:.4f}", so_far) for name in ("mean", "std", "lowest", "highest")),
                show(row["epoch"], "{:.1f}"),
                show(row["params"], "{:,.0f}"),
                show(row["seconds"], "{:,.1f}"),
            ]
        )
    return rows


def show(value: Any, form: str = "", before: str = "") -> str:
    """One cell; a dash where there is no value."""
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return "–"
    if form:
        return before + form.format(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def to_markdown(found: Comparison) -> str:
    """The headline, the ranked table, and each run that is not DONE with its reason."""
    head, *rows = [[escape(cell) for cell in row] for row in cells_of(found)]
    lines = [headline(found), "", line(head), line(["---"] * len(head)), *map(line, rows)]
    if any("~" in cell for row in rows for cell in row):
        lines += ["", "~ so far: none of its runs is DONE."]
    unfinished = found.frame[(found.frame["state"] != DONE) | (found.frame["reason"] != "")]
    if len(unfinished):
        lines += ["", line(["run", "state", "reason"]), line(["---"] * 3)]
        cells = unfinished[["run", "state", "reason"]].astype(str).values.tolist()
        lines += [line([escape(cell) for cell in row]) for row in cells]
    return "\n".join(lines) + "\n"


def line(cells: list[str]) -> str:
    """One line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Text that stays one cell of a Markdown table, and no HTML."""
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def to_terminal(found: Comparison) -> Table:
    """The ranked table for `rich`, states in colour."""
    from rich.text import Text

    head, *rows = cells_of(found)
    table = Table(title=headline(found), title_justify="left")
    numeric = {"rank", "mean", "std", "lowest", "highest", "epoch", "params", "seconds"}
    for name in head:
        table.add_column(Text(name), justify="right" if name in numeric else "left", overflow="fold")
    for row in rows:
        texts = [Text(cell) for cell in row]
        state = texts[head.index("state")]
        for name, colour in COLOURS.items():
            state.highlight_words([name], colour)
        table.add_row(*texts)
    return table
