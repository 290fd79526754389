"""A sample of what people type and have, and worse; ``scripts/fuzz.py`` tries as many more as one likes."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "scripts"))

from fuzzing.case import Case, Outcome  # noqa: E402
from fuzzing.command_lines import CONF, choices, command_line, keys  # noqa: E402
from fuzzing.files import BREAKERS, file, written  # noqa: E402
from fuzzing.layout import NEIGHBOUR  # noqa: E402
from fuzzing.rule import faults  # noqa: E402
from fuzzing.run_folders import run_folder  # noqa: E402

SAMPLE = {"command-lines": 24, "files": 16, "run-folders": 14}
RUN = f"{NEIGHBOUR}/config.yaml"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_is_asked_for_is_done_or_refused_in_a_line_and_touches_nothing_else(tmp_path: Path) -> None:
    counts = [word for kind, count in SAMPLE.items() for word in (f"--{kind}", str(count))]
    command = [sys.executable, str(ROOT / "scripts" / "fuzz.py"), "--seed", "0", *counts, "--work", str(tmp_path)]
    tried = subprocess.run(command, capture_output=True, text=True, timeout=880)
    assert tried.returncode == 0, tried.stdout + tried.stderr[-3000:]
    assert [line.partition(" tried")[0] for line in tried.stdout.splitlines()] == [
        f"{kind}: {count}" for kind, count in SAMPLE.items()
    ]


@pytest.mark.parametrize("make", [command_line, file, run_folder])
def test_a_case_is_a_function_of_its_seed_and_number(make: Callable[[int, int], Case]) -> None:
    def told(seed: int) -> list[Case]:
        return [make(seed, number)._replace(prepare=print) for number in range(30)]

    assert told(3) == told(3) != told(4)


def test_cases_are_drawn_from_all_that_conf_offers() -> None:
    folders = {path.name for path in CONF.iterdir() if path.is_dir()} - {"hydra"}
    assert folders <= choices().keys() and "lstm" in choices()["model"] and "bpe" in choices()["data/tokenizer"]
    assert {"depth", "trainer.patience", "data.max_length", "model.options.layer_norm"} <= keys().keys()


def test_every_way_of_breaking_takes_every_file() -> None:
    for kind in ("csv", "tsv", "jsonl", "json", "txt"):
        for breaker in BREAKERS.values():
            breaker(random.Random(0), breaker(random.Random(0), written(random.Random(0), kind)))


TRACE = 'Traceback (most recent call last):\n  File "x"\nKeyError: 1\nerror: KeyError: 1\n'
BROKEN = [
    pytest.param("train", None, "", {}, "not over", id="too long"),
    pytest.param("train", -11, "", {}, "exit code -11", id="killed"),
    pytest.param("predict", 1, TRACE, {}, "a traceback", id="traceback"),
    pytest.param("predict", 2, "", {}, "without an error line", id="silent"),
    pytest.param("predict", 2, "error: a\nerror: b\n", {}, "refused in 2 lines", id="two lines"),
    pytest.param("predict", 2, "error: KeyError: 'x'\n", {}, "a program's words", id="type"),
    pytest.param("predict", 2, "error: a\nbye\n", {}, "words after", id="chatter"),
    pytest.param("evaluate", 0, "", {}, "nothing done", id="nothing done"),
    pytest.param("train", 0, "", {}, "nothing done", id="no DONE"),
    pytest.param("train", 0, "", {"runs/a/DONE": "", RUN: "new"}, "another run's file", id="neighbour"),
    pytest.param("train", 0, "", {"runs/a/DONE": "", RUN: None}, "another run's file", id="neighbour deleted"),
    pytest.param("train", 0, "", {"runs/a/DONE": "", "reviews.csv": "new"}, "a file changed", id="data"),
    pytest.param("train", 2, "error: no\n", {"runs/own/config.yaml": "new"}, "a file changed", id="refused"),
    pytest.param("train", 2, "error: no\n", {"runs/own/DONE": "new"}, "refused, but made", id="refused and done"),
    pytest.param("train", 0, "", {"runs/a/DONE": "", "runs/a/.x.1-a.tmp": ""}, "temporary file", id="leftover"),
    pytest.param("train", 1, "error: no\n", {}, "failed without FAILED", id="no FAILED"),
    pytest.param("train", 1, "error: no\n", {"runs/a/FAILED": "\nreason: KeyError: 1\n"}, "nobody foresaw", id="bug"),
]


@pytest.mark.parametrize(("door", "code", "err", "changed", "fault"), BROKEN)
def test_the_rule_finds_what_it_is_for(
    door: str, code: int | None, err: str, changed: dict[str, str | None], fault: str, tmp_path: Path
) -> None:
    case = Case("command-lines", 0, "", door, ["depth=2"], own=("runs/own",))
    before = {RUN: "old", "reviews.csv": "old", "runs/own/config.yaml": "old"}
    after = {name: content for name, content in (before | changed).items() if content is not None}
    for name, content in after.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    found = faults(case, Outcome(code, "", err, 1.0), tmp_path, before, after)
    assert any(fault in line for line in found), found


@pytest.mark.parametrize(
    ("door", "code", "out", "err", "changed"),
    [
        ("train", 0, "outputs/runs/a", "", {"runs/a/DONE": ""}),
        ("train", 1, "", "error: not finite\n", {"runs/a/FAILED": "\nreason: not finite\n"}),
        ("train", 2, "", "warning: x\nerror: depth=0: should be greater\n", {}),
        ("predict", 0, '{"label": "pos"}', "", {}),
    ],
)
def test_the_rule_lets_a_good_end_be(
    door: str, code: int, out: str, err: str, changed: dict[str, str], tmp_path: Path
) -> None:
    case = Case("command-lines", 0, "", door, ["depth=2"])
    for name, content in changed.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(content)
    assert faults(case, Outcome(code, out, err, 1.0), tmp_path, {}, changed) == []
