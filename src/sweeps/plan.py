"""Which runs a sweep consists of, and which folder each of them has."""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from src.arguments import NOT_IDENTITY, names_run
from src.config import Config, read_config
from src.errors import RequestError
from src.tracking.run_folder import end_of, holds_run, noted


@dataclass(frozen=True)
class Job:
    """One run of a sweep: what was typed for it, what came of that, and where it lives."""

    overrides: tuple[str, ...]
    config: Config | None
    """None where the request was refused."""
    folder: Path
    refusal: RequestError | None = None

    @property
    def label(self) -> str:
        """The overrides that tell it from other runs, as typed."""
        return label(self.overrides)

    @property
    def state(self) -> str:
        """DONE, FAILED or PRUNED; ``begun`` for a run that is going on or was cut off, else ``new``."""
        return end_of(self.folder) or ("begun" if holds_run(self.folder) else "new")

    def ended(self, since: float) -> bool:
        """Whether it came to an end, a failure counting only from a moment on."""
        with suppress(OSError):  # there is no such file, or no folder
            return self.state in ("DONE", "PRUNED") or (self.folder / "FAILED").stat().st_mtime >= since - 1
        return False

    @property
    def refused(self) -> bool:
        """Whether it FAILED because of what it was asked, and not because of how it went."""
        return noted(self.folder).startswith("wrong request")


def label(overrides: Iterable[str]) -> str:
    """What was typed for a run, without what names no run."""
    return " ".join(override for override in overrides if names_run(override)) or "defaults"


def short_label(overrides: Iterable[str], varied: Collection[str]) -> str:
    """What tells a run from the others of its sweep: of what was typed, the keys that are varied."""
    overrides = list(overrides)
    own = [override for override in overrides if override.partition("=")[0] in varied]
    return label(own or overrides)


def run_folder(sweep: Path, overrides: Sequence[str], identity: Mapping[str, Any] | Sequence[str]) -> Path:
    """The folder of a run: what was typed for it and a hash of all it is, by which it is found again.

    A run that is asked for in other words (``lr=1e-3``, where that is the default anyway) has the same hash and so the
    same folder.
    """
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
    typed = "_".join(override.lstrip("+~").replace("=", "-", 1) for override in overrides if names_run(override))
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", typed).strip("-.")[:100] or "defaults"
    found = sorted(sweep.glob(f"*-{digest}")) if sweep.is_dir() else []
    return found[0] if found else sweep / f"{name}-{digest}"


def identity(config: Config) -> dict[str, Any]:
    """The configuration without what makes no other run."""
    kept = config.to_dict()
    for key in NOT_IDENTITY:
        *sections, last = key.split(".")
        node = kept
        for section in sections:
            node = node[section]
        node.pop(last, None)
    return kept


def strangers(jobs: Sequence[Job]) -> list[tuple[Path, str]]:
    """Folders with the words of a new run in their name that this version cannot read, and why."""
    found = []
    for job in jobs:
        if job.state == "new":
            words = job.folder.name.rpartition("-")[0]
            for other in job.folder.parent.glob(f"{words}-*"):
                try:
                    if re.fullmatch(r".*-[0-9a-f]{8}", other.name) and holds_run(other):
                        read_config(other)
                except RequestError as error:
                    found.append((other, str(error)))
    return found
