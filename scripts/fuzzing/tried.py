"""Trying cases and counting: what `scripts/fuzz.py` prints and `tests/fuzz` asserts."""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fuzzing.case import Case, Outcome
from fuzzing.command_lines import command_line
from fuzzing.files import file
from fuzzing.house import learn_imports, try_cases
from fuzzing.layout import lay_out, snapshot
from fuzzing.rule import faults
from fuzzing.run_folders import run_folder
from fuzzing.templates import RUNS, write_data

KINDS: dict[str, Callable[[int, int], Case]] = {"command-lines": command_line, "files": file, "run-folders": run_folder}


@dataclass
class Figures:
    """What came of the cases of one kind."""

    ended: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def count(self, outcome: Outcome, found: list[str]) -> None:
        """Take up one case."""
        ended = {0: "done", 1: "failed", 2: "refused in a line"}
        self.ended["ended badly" if outcome.code is None else ended.get(outcome.code, "ended badly")] += 1
        self.faults += found

    def __str__(self) -> str:
        """One line."""
        tally = ", ".join(f"{count} {how}" for how, count in sorted(self.ended.items()))
        return f"{self.ended.total()} tried: {tally}; {len(self.faults)} faults"


def make_templates(work: Path) -> Path:
    """Data files and good runs, made once; this process imports on the way what they need."""
    templates = work / "templates"
    (templates / "data").mkdir(parents=True)
    write_data(templates / "data")
    shutil.copytree(templates / "data", work / "making")
    requests = [("train", [*arguments, f"hydra.run.dir={templates / name}"]) for name, arguments in RUNS.items()]
    requests += [
        ("evaluate", [f"run={templates / 'classifier'}", "data.path=other.jsonl"]),
        ("predict", [f"run={templates / 'classifier'}", "text=a film"]),
        ("generate", [f"run={templates / 'writer'}", "prompt=the", "length=2"]),
        ("train", ["-m", *RUNS["counter"], "seed=0,1"]),
        ("sweeps", ["outputs/sweeps"]),
    ]
    learn_imports(work / "making", requests)
    return templates


def attempt(
    cases: Iterator[Case], work: Path, templates: Path, jobs: int, limit: float, fresh_every: int, keep: bool
) -> Iterator[tuple[Case, Outcome, list[str]]]:
    """Try cases and judge each by the rule."""
    before: dict[str, dict[str, str]] = {}

    def prepare(case: Case) -> Path:
        folder = work / f"{case.kind}-{case.number}"
        lay_out(folder, templates)
        case.prepare(folder, templates)
        before[case.name] = snapshot(folder)
        return folder

    for case, folder, outcome in try_cases(cases, prepare, jobs, limit, fresh_every):
        found = faults(case, outcome, folder, before.pop(case.name), snapshot(folder))
        yield case, outcome, found
        if not (keep or found):
            shutil.rmtree(folder)
