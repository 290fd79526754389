"""Compare the runs of a sweep: ``python -m src.sweeps outputs/sweeps/NAME [metric]``, at any moment."""

import sys
from pathlib import Path

from src.errors import RequestError
from src.sweeps.table import compare, read_sweep, to_markdown


def main(arguments: list[str]) -> int:
    """Print the table; 0, or 2 for a wrong request."""
    if not 1 <= len(arguments) <= 2:
        print("usage: python -m src.sweeps FOLDER [METRIC]", file=sys.stderr)
        return 2
    try:
        print(to_markdown(compare(read_sweep(Path(arguments[0])), *arguments[1:])))
    except RequestError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
