"""How fast DeepRNN is, against torch.nn, its peers and the machine's own limit.

    python scripts/benchmark.py --quick             the promised sizes, in about a minute
    python scripts/benchmark.py                     a listed subset of sizes and all other sections, within an hour
    python scripts/benchmark.py --full              the whole grid
    python scripts/benchmark.py --only scaling      one section, or several: --only options,step
    python scripts/benchmark.py --only cuda         on a GPU: whether compiled chunks are faster than the loop
    python scripts/benchmark.py --sizes 64x2x100x32 sizes of your own: units x layers x steps x sequences
    python scripts/benchmark.py --show              the tables of what was saved, for results/

All contestants get the same weights, input and threads, are compiled and warm before the clock runs, and take turns
(A B A B ...) in one process. Times are medians with the middle half of all calls. A ratio says how many times as fast
as torch.nn a contestant is. The limit is the least time that the machine's own matrix-product rate and memory
bandwidth allow, both measured in the same turns. Keras and Flax take part where they are installed:
pip install -e '.[peers]'.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
from benchmarking import cuda, drop_in, epoch, loss, machine, models, options, scaling, sizes, step
from benchmarking.cases import CELLS, Size
from benchmarking.section import Plan, Row, Section

from src.files import write_atomic

SECTIONS: dict[str, Section] = {
    "sizes": sizes.SECTION,
    "drop_in": drop_in.SECTION,
    "options": options.SECTION,
    "scaling": scaling.SECTION,
    "models": models.SECTION,
    "loss": loss.SECTION,
    "step": step.SECTION,
    "epoch": epoch.SECTION,
    "cuda": cuda.SECTION,
}


def main() -> int:
    """Measure section by section; print and save as it goes."""
    chosen = arguments().parse_args()
    names = list(SECTIONS) if chosen.only is None and not chosen.quick else (chosen.only or "sizes").split(",")
    unknown = [name for name in names if name not in SECTIONS]
    if unknown:
        print(f"--only={unknown[0]}: no such section; known: {', '.join(SECTIONS)}", file=sys.stderr)
        return 2
    extent = "quick" if chosen.quick else "full" if chosen.full else "usual"
    seconds = chosen.seconds if chosen.seconds is not None else 0.3 if chosen.quick else 0.5
    plan = Plan(extent, seconds, tuple(chosen.cells.split(",")), tuple(chosen.sizes))
    if chosen.show:
        return show(chosen.out)
    machine.settle()
    about = machine.describe(min(seconds, 0.3))
    print(", ".join(f"{name.replace('_', ' ')} {value}" for name, value in about.items()) + "\n", flush=True)
    for name in names:
        reason = SECTIONS[name].why_not()
        if reason is None:
            run(name, plan, about, chosen.out / (name if extent == "usual" else f"{name}-{extent}"))
        elif chosen.only is not None:
            print(f"--only={name}: {reason}", file=sys.stderr)
            return 2
        else:
            print(f"{name}: left out, {reason}\n", flush=True)
    return 0


def run(name: str, plan: Plan, about: dict[str, Any], path: Path) -> None:
    """One section: rows as they come, the table and the picture at the end; what is measured is saved at once."""
    section, rows, started = SECTIONS[name], [], time.monotonic()
    for row in section.measure(plan):
        rows.append(row)
        save(path, section, about, rows)
        print(
            f"[{time.monotonic() - started:4.0f} s] {'  '.join(section.line(row, section.header([row])))}", flush=True
        )
    section.draw(rows, path.with_suffix(".png"))
    print(f"\n## {section.title}\n\n{section.table(rows)}\n\nin {path.with_suffix('.json')} and .png\n", flush=True)


def save(path: Path, section: Section, about: dict[str, Any], rows: list[Row]) -> None:
    """The section's figures so far."""
    write_atomic(path.with_suffix(".json"), json.dumps({"machine": about, "title": section.title, "rows": rows}) + "\n")


def show(folder: Path) -> int:
    """Print the tables of all that was saved, in Markdown."""
    files = sorted(folder.glob("*.json"))
    if not files:
        print(f"--show: nothing was measured in {folder} yet", file=sys.stderr)
        return 2
    for file in files:
        saved, section = json.loads(file.read_text()), SECTIONS[file.stem.partition("-")[0]]
        about = "  ".join(f"{name} {value}" for name, value in saved["machine"].items())
        print(f"## {section.title}\n\n{file.stem}: {about}\n\n{section.table(saved['rows'])}\n")
    return 0


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--quick", action="store_true", help="the promised sizes, in about a minute")
    extent.add_argument("--full", action="store_true", help="every width, depth, length and batch size")
    parser.add_argument("--only", metavar="NAMES", help=f"sections, of {', '.join(SECTIONS)} (default: all)")
    parser.add_argument("--sizes", type=size, nargs="+", default=[], metavar="HxLxTxB", help="sizes of your own")
    parser.add_argument("--cells", type=cells, default=",".join(CELLS), help="which cells (default: %(default)s)")
    parser.add_argument("--seconds", type=float, help="for each contestant of a row (default: 0.5, with --quick 0.3)")
    parser.add_argument("--out", type=Path, default=Path("outputs/benchmark"), help="folder (default: %(default)s)")
    parser.add_argument("--show", action="store_true", help="print the tables of what was saved, and measure nothing")
    return parser


def size(text: str) -> Size:
    """``64x2x100x32`` as units, layers, steps, sequences."""
    try:
        hidden, layers, steps, batch = (int(part) for part in text.split("x"))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text} is not units x layers x steps x sequences, such as 64x2x100x32"
        ) from None
    if min(hidden, layers, steps, batch) < 1:
        raise argparse.ArgumentTypeError(f"{text}: every number is at least 1")
    return hidden, layers, steps, batch


def cells(text: str) -> str:
    """Names of cells that torch.nn has too."""
    for name in text.split(","):
        if name not in CELLS:
            raise argparse.ArgumentTypeError(f"{name} is not one of {', '.join(CELLS)}")
    return text


if __name__ == "__main__":
    sys.exit(main())
