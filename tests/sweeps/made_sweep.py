"""Run folders as training leaves them, without a training: what the table, the figures and the page are tried on."""

import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

TRACEBACK = "Traceback (most recent call last):\n  ...\n"
OUT_OF_MEMORY = (
    TRACEBACK + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB\nreason: out of memory\n"
)
NOT_FINITE = TRACEBACK + "src.errors.RunError: step 7: not finite in rnn (loss nan); no update\nreason: not finite\n"
ODD = 'a<script>alert("x")</script>|b & \'c\' – "ü"'


def make_run(
    folder: Path,
    *,
    end: str | None = "DONE",
    why: str = "",
    best: float | None = 0.8,
    epochs: int = 5,
    seed: int = 0,
    monitor: str = "val/accuracy",
    mode: str = "max",
    class_f1: dict[str, float] | None = None,
    **choices: Any,
) -> Path:
    """Write one run; a double underscore in a choice goes one section down: ``model__cell="gru"``."""
    config: dict[str, Any] = {"model": {"cell": "gru"}, "depth": 2, "lr": 1e-3, "seed": seed, "sweep": {"name": "x"}}
    config["trainer"] = {"monitor": monitor, "mode": mode}
    for key, value in choices.items():
        *sections, name = key.split("__")
        target = config
        for section in sections:
            target = target.setdefault(section, {})
        target[name] = value
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    lines = []
    for epoch in range(1, epochs + 1):
        value = None if best is None else best - 0.3 * math.exp(-epoch) * (1 if mode == "max" else -1)
        at = {"step": 100 * epoch, "epoch": epoch, "time": 1.5 * epoch}
        lines.append({**at, "step": 100 * epoch - 50, "train/loss": 1.0 / epoch, "train/grad_norm": 0.5})
        lines.append({**at, monitor: value, "val/loss": 0.9 / epoch, "val/baseline": 0.5})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if end is not None:
        (folder / end).write_text(why)
    if end == "DONE":
        found = {monitor: best, "epoch": epochs, "val/loss": 0.9 / max(epochs, 1), "val/baseline": 0.5}
        summary = {
            "best": found,
            "final": found,
            "params": 1000 * config["depth"],
            "seconds": 1.5 * epochs,
            "steps": 500,
        }
        (folder / "summary.json").write_text(json.dumps(summary))
    if class_f1 is not None:
        rows = [{"class": name, "examples": 9, "f1": value} for name, value in class_f1.items()]
        pd.DataFrame(rows).to_csv(folder / "classes.csv", index=False)
    return folder


def make_sweep(folder: Path, cells: int = 3, depths: int = 4, rates: int = 3, seeds: int = 2) -> Path:
    """A sweep in which a few runs went every way that a run can go."""
    draw = random.Random(0)
    names, lrs = ("gru", "lstm", "rnn", "lem", "ugrnn")[:cells], (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)[:rates]
    for number, (cell, depth, lr, seed) in enumerate(itertools.product(names, range(1, depths + 1), lrs, range(seeds))):
        best = 0.6 + 0.05 * math.log(depth) + 0.05 * len(cell) + 0.03 * math.log10(lr) + draw.gauss(0, 0.01)
        ways: dict[int, dict[str, Any]] = {
            3: {"end": "FAILED", "why": OUT_OF_MEMORY, "best": None},
            7: {"end": "FAILED", "why": NOT_FINITE, "epochs": 2},
            11: {"end": "PRUNED", "why": "val/accuracy is below the median", "epochs": 2},
            13: {"end": None, "epochs": 3},
        }
        name = f"cell-{cell}_depth-{depth}_lr-{lr:g}_seed-{seed}"
        how = {"best": best, "model__cell": cell, "depth": depth, "lr": lr, "seed": seed} | ways.get(number, {})
        make_run(folder / name, **how)
    return folder
