"""What tests of whole sweeps share."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from helpers import environment


def runs(folder: Path, *marks: str) -> dict[str, Path]:
    """Folders of ``outputs/sweeps/s`` with one of these files, by name."""
    found = (folder / "outputs/sweeps/s").glob("*")
    return {path.name: path for path in found if any((path / mark).exists() for mark in marks)}


def content(folders: dict[str, Path]) -> dict[str, bytes]:
    """Every byte of these folders, by file."""
    files = (file for folder in folders.values() for file in folder.rglob("*") if file.is_file())
    return {str(file): file.read_bytes() for file in files}


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[str] | None = None, seconds: float = 240) -> None:
    """Wait until something is so, as long as the process that is to make it so lives."""
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until and (process is None or process.poll() is None)
        time.sleep(0.02)


def trouble_environment(folder: Path) -> dict[str, str]:
    """The environment in which cells of `trouble_cells` find their flags, in ``folder/trouble``."""
    (folder / "trouble").mkdir()
    env = environment(folder)
    here = str(Path(__file__).parent)
    return env | {"TROUBLE": str(folder / "trouble"), "PYTHONPATH": os.pathsep.join([here, env["PYTHONPATH"]])}
