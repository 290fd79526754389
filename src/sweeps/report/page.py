"""The page: the table and every figure in one HTML file that asks for nothing else."""

import html
import json
from datetime import datetime
from importlib.resources import files
from typing import Any

from src.sweeps.report.classes import class_scores
from src.sweeps.report.runs import STATES
from src.sweeps.report.table import Comparison
from src.sweeps.report.text import headline
from src.sweeps.report.view import curve, curve_names, groups_of, heat_map, plain, points_each

ASSETS = files("src.sweeps.report") / "assets"
SCRIPTS = ("core.js", "table.js", "figures.js")
MEASURES = ("epoch", "params", "seconds")


def build_page(found: Comparison, title: str, made: datetime | None = None) -> str:
    """The whole page as HTML. What it shows comes from users' names and files, so none of it is ever read as HTML."""
    page = (ASSETS / "page.html").read_text(encoding="utf-8")
    parts = {
        "title": html.escape(title),
        "headline": html.escape(headline(found)),
        "made": (made or datetime.now()).strftime("%Y-%m-%d %H:%M:%S"),
        "style": (ASSETS / "page.css").read_text(encoding="utf-8"),
        "script": "\n".join((ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS),
        "data": json.dumps(data_of(found), allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    for name in parts:  # the page's own places only, once: what was put in is not searched again
        assert page.count(f"{{{{{name}}}}}") == 1
    pieces = page.split("{{")
    return pieces[0] + "".join(parts[name] + rest for name, rest in (piece.split("}}", 1) for piece in pieces[1:]))


def data_of(found: Comparison) -> dict[str, Any]:
    """What the page's script draws."""
    labels = list(found.choices.values())
    by, groups = groups_of(found)
    names, classes = curve_names(found), class_scores(found)
    most = points_each(len(names) * len(found.runs))
    return {
        "metric": found.metric._asdict(),
        "baseline": plain(found.baseline),
        "states": list(STATES),
        "choices": labels,
        "by": by,
        "runs": [
            {
                "name": run["run"],
                "setting": int(run["setting"]),
                "group": group,
                "choices": [plain(run[label]) for label in labels],
                **{name: plain(run[name]) for name in ("seed", "state", "reason", "value", *MEASURES)},
            }
            for run, group in zip(found.frame.to_dict("records"), groups, strict=True)
        ],
        "settings": [
            {
                "choices": [plain(row[label]) for label in labels],
                **{name: plain(row[name]) for name in ("state", "mean", "std", "lowest", "highest", *MEASURES)},
            }
            for row in found.table.to_dict("records")
        ],
        "heat": heat_map(found)._asdict(),
        "classes": classes and classes._asdict(),
        "curves": {name: [thin(curve(run.lines, name, most)) for run in found.runs] for name in names},
    }


def thin(parts: list[list[float]]) -> list[list[float]]:
    """A curve's numbers with no more digits than a screen can show."""
    return [[plain(value) for value in part] for part in parts]
