"""Run folders with something missing, cut, of another version or edited by hand."""

import io
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml

from fuzzing.case import Case
from fuzzing.layout import take_runs
from fuzzing.templates import LIMITED, RUNS, TEXT
from fuzzing.values import misspelt

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden" / "run_0.1.0"
FILES = ["config.yaml", "metrics.jsonl", "summary.json", "encoder.json", "best.ckpt", "last.ckpt", "DONE"]
VALUES: list[Any] = [
    None,
    True,
    -1,
    0,
    1.5,
    float("nan"),
    float("inf"),
    "x",
    "",
    [],
    [1],
    {},
    {"a": 1},
    10**30,
    "日本",
    [None],
    {"name": "x"},
]
"""Of YAML and JSON, wrong in most places."""


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


def missing(draw: random.Random, run: Path) -> str:
    names = draw.sample(FILES, draw.choice([1, 1, 2, 4]))
    for name in names:
        _remove(run / name)
    return f"no {', '.join(names)}"


def cut(draw: random.Random, run: Path) -> str:
    path = _some(draw, run)
    content = path.read_bytes()
    at = draw.choice([0, 1, len(content) // 2, max(len(content) - 1, 0), draw.randrange(len(content) + 1)])
    path.write_bytes(content[:at])
    return f"{path.name} cut at {at} of {len(content)}"


def flipped(draw: random.Random, run: Path) -> str:
    path = _some(draw, run)
    content = bytearray(path.read_bytes())
    for _ in range(draw.choice([1, 1, 5, 50]) if content else 0):
        content[draw.randrange(len(content))] = draw.randrange(256)
    path.write_bytes(content)
    return f"{path.name} with other bytes"


def instead(draw: random.Random, run: Path) -> str:
    path = run / draw.choice(FILES)
    _remove(path)
    match what := draw.choice(
        ["a folder", "a link to nowhere", "random bytes", "a link to itself", "text", "another file"]
    ):
        case "a folder":
            path.mkdir()
        case "a link to nowhere":
            path.symlink_to("nowhere")
        case "a link to itself":
            path.symlink_to(path.name)
        case "random bytes":
            path.write_bytes(draw.randbytes(200))
        case "text":
            path.write_text("hello\n")
        case "another file":
            path.write_bytes(_some(draw, run).read_bytes())
    return f"{path.name} is {what}"


def _some(draw: random.Random, run: Path) -> Path:
    return draw.choice([run / name for name in FILES if (run / name).is_file()])


def edited(draw: random.Random, run: Path) -> str:
    name = draw.choice(
        [name for name in ("config.yaml", "config.yaml", "encoder.json", "summary.json") if (run / name).exists()]
    )
    path = run / name
    content = (
        yaml.safe_load(path.read_text(encoding="utf-8")) if name == "config.yaml" else json.loads(path.read_text())
    )
    content, what = _altered(draw, content)
    path.write_text(yaml.safe_dump(content) if name == "config.yaml" else json.dumps(content), encoding="utf-8")
    return f"{name}: {what}"


def metrics(draw: random.Random, run: Path) -> str:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    at = draw.randrange(len(lines) + 1)
    line = draw.choice(
        ["", "[]", "1", "null", '"x"', "{}", '{"step": "x"}', '{"step": null, "epoch": "a"}', "{", "NaN", "\0", "日本"]
    )
    line = draw.choice([line, json.dumps(_altered(draw, json.loads(lines[0]))[0]) if lines else line])
    lines.insert(at, line)
    (run / "metrics.jsonl").write_text("\n".join(lines) + draw.choice(["\n", ""]))
    return f"metrics.jsonl with a line {line[:40]}"


def checkpoint(draw: random.Random, run: Path) -> str:
    path = run / draw.choice(["best.ckpt", "last.ckpt"])
    content, what = _altered(draw, torch.load(path, weights_only=True))
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.write_bytes(buffer.getvalue())
    return f"{path.name}: {what}"


def older(draw: random.Random, run: Path) -> str:
    path = run / draw.choice(["best.ckpt", "last.ckpt"])
    version = draw.choice([0, 1, 3, "2", None])
    torch.save({**torch.load(path, weights_only=True), "version": version}, path)
    return f"{path.name} of version {version}"


def swapped(draw: random.Random, run: Path) -> str:
    name = draw.choice(["best.ckpt", "last.ckpt", "config.yaml", "encoder.json"])
    other = draw.choice([path for path in run.parent.iterdir() if path != run and (path / name).is_file()])
    shutil.copy(other / name, run / name)
    return f"{name} of another run ({other.name})"


def golden(draw: random.Random, run: Path) -> str:
    shutil.rmtree(run)
    shutil.copytree(GOLDEN, run)
    return f"a run of version 0.1.0 with {draw.choice([cut, missing, edited, swapped, instead])(draw, run)}"


def cut_off(draw: random.Random, run: Path) -> str:
    for name in ("DONE", "summary.json"):
        _remove(run / name)
    (run / draw.choice([".last.ckpt.1-ab.tmp", ".best.ckpt.2-cd.tmp"])).write_bytes(b"half")
    return f"cut off, with {draw.choice([cut, missing, metrics, edited])(draw, run)}"


def marked(draw: random.Random, run: Path) -> str:
    for name in ("FAILED", "PRUNED", "DONE")[: draw.choice([1, 2, 3])]:
        (run / name).write_bytes(draw.choice([b"", b"\xff\xfe", b"reason: x", b"\n" * 1000]))
    return "every mark"


def _altered(draw: random.Random, content: Any) -> tuple[Any, str]:
    """The content with one place in it changed, and which."""
    if draw.random() < 0.08:
        value = draw.choice(VALUES)
        return value, f"all of it is {value!r}"
    node, path = content, list[str]()
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        key = draw.choice(keys)
        path.append(str(key))
        inner = node[key]
        if isinstance(inner, dict | list) and inner and draw.random() < 0.8:
            node = inner
            continue
        break
    where = ".".join(path)[:80]
    match draw.choice(["value", "value", "value", "lost", "more", "renamed"]):
        case "lost":
            del node[key]
            return content, f"{where} is lost"
        case "more" if isinstance(node, dict):
            node[draw.choice(["unknown", "name", 3])] = draw.choice(VALUES)
            return content, f"another key beside {where}"
        case "renamed" if isinstance(node, dict):
            node[misspelt(draw, str(key))] = node.pop(key)
            return content, f"{where} is misspelt"
    value = (
        torch.zeros(draw.choice([0, 1, 7])) if torch.is_tensor(inner) and draw.random() < 0.7 else draw.choice(VALUES)
    )
    node[key] = value
    return content, f"{where} is {value!r}"


CHANGES: list[Callable[[random.Random, Path], str]] = [
    missing,
    cut,
    flipped,
    instead,
    edited,
    metrics,
    checkpoint,
    older,
    swapped,
    golden,
    cut_off,
    marked,
]
WEIGHTS = [2, 3, 2, 2, 4, 2, 5, 1, 2, 1, 2, 1]


def run_folder(seed: int, number: int) -> Case:
    """One folder, and a request for it."""
    start = f"{seed}/run-folders/{number}"
    draw = random.Random(start)
    name = draw.choice(list(RUNS))
    change = draw.choices(CHANGES, WEIGHTS)[0]
    run = f"runs/{name}"
    door, arguments, stdin, own = _request(draw, name, run)

    def prepare(folder: Path, templates: Path) -> None:
        take_runs(*RUNS)(folder, templates)
        change(random.Random(start), folder / run)

    return Case("run-folders", number, f"{name}: {change.__name__}", door, arguments, stdin, prepare, own)


def _request(draw: random.Random, name: str, run: str) -> tuple[str, list[str], bytes, tuple[str, ...]]:
    match draw.choices(
        ["evaluate", "predict", "generate", "resume", "init_from", "sweeps", "again"], [20, 12, 10, 34, 10, 8, 6]
    )[0]:
        case "evaluate":
            return "evaluate", [f"run={run}", *draw.choice([[], ["data.path=other.jsonl"], ["split=train"]])], b"", ()
        case "predict":
            return "predict", [f"run={run}", *draw.choice([["text=a film"], []])], b"a film\nthe plot\n", ()
        case "generate":
            return "generate", [f"run={run}", "prompt=the", "length=3", *draw.choice([[], ["top_k=2"]])], b"", ()
        case "resume":
            return "train", [f"resume={run}", *draw.choice([[], ["epochs=2", "max_steps=4"]])], b"", (run,)
        case "init_from":
            return "train", [*LIMITED, *TEXT, f"init_from={run}"], b"", ()
        case "sweeps":
            return "sweeps", ["runs"], b"", ()
    return "train", [*RUNS[name], f"hydra.run.dir={run}"], b"", ()
