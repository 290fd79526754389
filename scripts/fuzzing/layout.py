"""How a case's folder is laid out: data files, runs of its own, and somebody else's run that nobody may touch."""

import hashlib
import shutil
from pathlib import Path

from fuzzing.case import Prepare

NEIGHBOUR = "outputs/runs/neighbour"


def take_runs(*names: str) -> Prepare:
    """Copy good runs to ``runs/``."""

    def prepare(folder: Path, templates: Path) -> None:
        for name in names:
            shutil.copytree(templates / name, folder / "runs" / name, symlinks=True)

    return prepare


def lay_out(folder: Path, templates: Path) -> None:
    """Make a case's folder."""
    shutil.copytree(templates / "data", folder)
    shutil.copytree(templates / "counter", folder / NEIGHBOUR)


def snapshot(folder: Path) -> dict[str, str]:
    """What lies below a folder: each file's bytes as a hash, each folder and link as such."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = f"link to {path.readlink()}"
        elif path.is_file():
            found[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[str(path.relative_to(folder))] = "folder"
    return found
