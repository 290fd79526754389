"""metrics.jsonl: one JSON object a line, readable at any moment, cut back when a run is taken up again."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from src.errors import FolderGoneError, RequestError, RunError
from src.files import write_atomic


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Read the whole lines of a metrics file; a last line that a killed writer left unfinished is ignored."""
    path = Path(path)
    return [json.loads(line) for line in _whole_lines(path)] if path.exists() else []


def plain_number(value: Any) -> Any:
    """Turn a value into what JSON knows: numbers that are not finite become null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


class MetricsFile:
    """Appends to a run's metrics.jsonl; each line is with the system when `append` returns, so kill -9 loses none."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines = len(_whole_lines(path)) if path.exists() else 0
        self.cut(self.lines)

    def append(self, metrics: Mapping[str, Any]) -> None:
        """Write one line.

        Raises:
            RunError: the disk is full.
            FolderGoneError: somebody deleted the file.
        """
        line = json.dumps({name: plain_number(value) for name, value in metrics.items()}, allow_nan=False)
        try:  # only the first line makes the file: where it is gone, the run is
            with open(self.path, "r+" if self.lines else "a", encoding="utf-8") as file:
                file.seek(0, os.SEEK_END)
                file.write(line + "\n")
        except FileNotFoundError as error:
            raise FolderGoneError(f"{self.path} was deleted while the run was writing to it") from error
        except OSError as error:
            raise RunError(f"cannot write {self.path}: {os.strerror(error.errno or 0)}") from error
        self.lines += 1

    def cut(self, lines: int) -> None:
        """Keep the first lines only; what came later belongs to training that is done again."""
        if not self.path.exists():
            return
        kept = "".join(line + "\n" for line in _whole_lines(self.path)[:lines])
        if kept != self.path.read_text(encoding="utf-8", errors="replace"):
            write_atomic(self.path, kept)
        self.lines = kept.count("\n")


def _whole_lines(path: Path) -> list[str]:
    """The whole lines, without a last one that a killed writer left unfinished.

    Raises:
        RequestError: a line before the last is damaged.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    for number, line in enumerate(lines, start=1):
        try:
            json.loads(line)
        except ValueError:
            if number == len(lines):
                return lines[:-1]
            raise RequestError(f"{path}, line {number}: damaged; take that line out or put it right") from None
    return lines
