"""The sweep's own files, kept up to date while it runs: table.md, table.csv, runs.csv, page.html and figures/."""

import json
import logging
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from src.files import write_atomic
from src.sweeps.report.page import build_page
from src.sweeps.report.runs import read_runs
from src.sweeps.report.table import Comparison, compare
from src.sweeps.report.text import to_markdown

log = logging.getLogger(__name__)

DRAWING_SHARE = 0.05
"""Of a sweep's time that may go into drawing the PNG files, which takes seconds; the page draws itself."""
LOCK_SECONDS = 60


def refresh(folder: str | Path, final: bool = False) -> None:
    """Bring a sweep's files up to date; any number of processes may call this at once, and none of them ever fails.

    Args:
        folder: of the sweep.
        final: draw the PNG files however short ago they were drawn.
    """
    folder, asked_at = Path(folder), time.time()
    try:
        folder.stat()  # the lock would make the folder anew
        with FileLock(folder / ".table.lock", timeout=LOCK_SECONDS):
            notes = _notes(folder)
            if not final and notes["read_at"] > asked_at:
                return  # while this process waited another one saw all that it would see
            notes["read_at"] = time.time()
            found = compare(read_runs(folder))
            write_tables(found, folder)
            now = time.time()
            if final or now - notes["drawn_at"] > notes["took"] / DRAWING_SHARE:
                draw(found, folder)
                notes |= {"drawn_at": time.time(), "took": time.time() - now}
            write_atomic(folder / ".table.json", json.dumps(notes))
    except Exception as error:  # a picture is no reason for a job to fail
        log.warning("the table of %s was not brought up to date: %s: %s", folder, type(error).__name__, error)


def write_tables(found: Comparison, folder: Path) -> None:
    """Write the tables and the page."""
    write_atomic(folder / "table.md", to_markdown(found))
    write_atomic(folder / "table.csv", found.table.rename_axis("rank").rename(lambda place: place + 1).to_csv())
    write_atomic(folder / "runs.csv", found.frame.assign(setting=found.frame["setting"] + 1).to_csv(index=False))
    write_atomic(folder / "page.html", build_page(found, folder.resolve().name))


def draw(found: Comparison, folder: Path) -> None:
    """Write the PNG files."""
    from src.sweeps.report.figures import draw_all  # late: it brings matplotlib

    draw_all(found, folder / "figures")


def _notes(folder: Path) -> dict[str, float]:
    """When the runs were last read, when the figures were last drawn, and how long that took."""
    notes = {"read_at": 0.0, "drawn_at": 0.0, "took": 0.0}
    with suppress(OSError, ValueError):
        notes |= json.loads((folder / ".table.json").read_text())
    return notes
