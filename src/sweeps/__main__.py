"""Compare the runs of a sweep: ``python -m src.sweeps outputs/sweeps/NAME``, at any moment, also while it runs.

Prints the ranked table and writes table.md, table.csv, runs.csv, page.html and figures/ into the folder.
"""

import argparse
import sys
from pathlib import Path

from src.errors import RequestError, RunError, printable


def main(arguments: list[str]) -> int:
    """Write and print; 0, or 1 where the files cannot be written, or 2 for a wrong request."""
    parser = argparse.ArgumentParser("python -m src.sweeps", description=__doc__)
    parser.add_argument("folder", type=Path, help="a sweep's folder, or any that holds runs")
    parser.add_argument("metric", nargs="?", help="what to rank by, such as val/loss (default: what the runs watch)")
    parser.add_argument("--mode", choices=("max", "min"), help="which is better, where the metric's name does not tell")
    try:
        chosen = parser.parse_args(arguments)
    except SystemExit as left:
        return int(left.code or 0)

    from rich.console import Console

    from src.sweeps.report.refresh import draw, write_tables
    from src.sweeps.report.runs import read_runs
    from src.sweeps.report.table import compare
    from src.sweeps.report.text import to_markdown, to_terminal

    try:
        found = compare(read_runs(chosen.folder), chosen.metric, chosen.mode)
        console = Console()
        if console.is_terminal:
            console.print(to_terminal(found))
        else:
            print(to_markdown(found), end="")
        write_tables(found, chosen.folder)
        draw(found, chosen.folder)
    except (RequestError, RunError) as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 1
    print(f"{chosen.folder / 'page.html'}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
