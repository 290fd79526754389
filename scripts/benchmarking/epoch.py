"""Section ``epoch``: an epoch of ``experiment=seed_gru``, validation included, beside the same model in Keras."""

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from benchmarking import keras_peer, pictures
from benchmarking.keras_peer import KERAS
from benchmarking.section import Plan, Row, Section
from src.arguments import CONF
from src.data.base import Data

OURS = "python -m src.train"
ROUNDS = 2
EPOCHS = 3  # of one run; the first one compiles, traces and warms, and is told apart
TARGET = 12


def measure(plan: Plan) -> Iterator[Row]:
    """One row: both in turn, each in a process of its own."""
    seconds: dict[str, list[list[float]]] = {OURS: [], KERAS: []}
    for _ in range(1 if plan.quick else ROUNDS):
        seconds[OURS].append(our_epochs())
        seconds[KERAS].append(keras_epochs())
    warm = {name: [epoch for run in runs for epoch in run[1:]] for name, runs in seconds.items()}
    first = {name: [run[0] for run in runs] for name, runs in seconds.items()}
    yield {
        "experiment": "seed_gru",
        "ratio": statistics.median(warm[KERAS]) / statistics.median(warm[OURS]),
        "ratio_of_first": statistics.median(first[KERAS]) / statistics.median(first[OURS]),
        "seconds": warm,
        "seconds_of_first": first,
    }


def our_epochs() -> list[float]:
    """Seconds of each epoch of one run."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        options = ["experiment=seed_gru", f"epochs={EPOCHS}", "logger=none", f"hydra.run.dir={run}"]
        checked([sys.executable, "-m", "src.train", *options])
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    ends = [line["time"] for line in lines if "val/accuracy" in line]
    return [end - start for start, end in itertools.pairwise([0.0, *ends])]


def keras_epochs() -> list[float]:
    """Seconds of each epoch of Keras's ``fit`` with validation."""
    return json.loads(checked([sys.executable, "-m", "benchmarking.epoch"]).splitlines()[-1])


def checked(command: list[str]) -> str:
    """What a command prints; this checkout's code first.

    Raises:
        RuntimeError: it failed.
    """
    paths = [str(CONF.parent), str(CONF.parent / "scripts"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    return done.stdout


def fit_keras() -> list[float]:
    """Train the same model on the same texts in Keras, padded with zeros in front as the well-known example does."""
    from hydra import compose, initialize_config_dir

    from src.config import compose_config
    from src.data.build import build_data

    keras, _ = keras_peer.load()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose_config(compose("config", ["experiment=seed_gru", "logger=none"]))
    data = build_data(cfg.data, cfg.seed)
    (x, y), validation = (whole(data, name) for name in ("train", "val"))
    keras.utils.set_random_seed(cfg.seed)
    layers = [keras.layers.GRU(5, return_sequences=True), keras.layers.GRU(5)]
    first = keras.layers.Embedding(data.spec.vocab_size, 32)
    model = keras.Sequential([keras.Input((x.shape[1],)), first, *layers, keras.layers.Dense(1, activation="sigmoid")])
    model.compile(keras.optimizers.Adam(1e-3), loss="binary_crossentropy", metrics=["accuracy"])
    ends = [time.perf_counter()]
    note = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter()))
    model.fit(x, y, batch_size=cfg.batch_size, epochs=EPOCHS, validation_data=validation, verbose=0, callbacks=[note])
    return [end - start for start, end in itertools.pairwise(ends)]


def whole(data: Data, split: str) -> tuple[np.ndarray, np.ndarray]:
    """All texts of a split, [N, T] with the padding in front, and their labels [N]."""
    batch = next(iter(data.loader(split, len(data.splits[split])).epoch()))
    steps = batch.inputs.shape[0]
    source = (torch.arange(steps)[:, None] + batch.lengths) % steps  # padding stands behind: go round by its length
    return batch.inputs.gather(0, source).T.contiguous().numpy().astype(np.int32), batch.targets.float().numpy()


def header(rows: list[Row]) -> list[str]:
    """Ratios first."""
    return [
        "experiment",
        f"Keras's epoch over ours (at least {TARGET})",
        "first epochs",
        "ours, s",
        "Keras, s",
    ]


def line(one: Row, head: list[str]) -> list[str]:
    """One row of the table."""
    seconds = [one["seconds"][name] for name in (OURS, KERAS)]
    spans = [f"{statistics.median(each):.2f} ({min(each):.2f}–{max(each):.2f})" for each in seconds]
    return [one["experiment"], f"{one['ratio']:.1f}x", f"{one['ratio_of_first']:.1f}x", *spans]


def draw(rows: list[Row], path: Path) -> None:
    """Seconds of each."""
    values = [(name, statistics.median(seconds)) for name, seconds in rows[0]["seconds"].items()]
    pictures.bars([("seed_gru: seconds an epoch", values)], path, at=values[-1][1] / TARGET)


SECTION = Section(
    "An epoch of `experiment=seed_gru`, validation included", measure, header, line, draw, keras_peer.why_not
)

if __name__ == "__main__":
    print(json.dumps(fit_keras()))
