"""A real run in a second: texts of numbers whose class the last one tells, and a small stack."""

import json
import multiprocessing
import os
import signal
import sys
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import matplotlib.figure  # what a run imports late, so that processes forked from here need not
import numpy as np
import pandas
import torch
from hydra import compose, initialize_config_dir
from torch import nn

from src.choices import CONF
from src.config import Config, compose_config
from src.data.base import DataSpec
from src.data.split import EncodedSplit
from src.data.text_data import TextData
from src.tasks.build import build_task
from src.tracking import RunFolder, SilentTracker, Tracker
from src.training import Interrupted, Trainer, prepare
from src.training.distributed import ALONE, World

LATE = (matplotlib.figure, pandas)

OVERRIDES = [
    "model=gru",
    "link=none",
    "depth=2",
    "width=6",
    "dropout=0.2",
    "backend=native",
    "data=text_file",
    "data.path=nowhere.csv",
    "task.embedding=4",
    "task.word_dropout=0.1",
    "optimizer=adam",
    "lr=0.01",
    "clip=1.0",
    "scheduler=cosine",
    "scheduler.warmup_steps=3",
    "scheduler.floor=0.1",
    "batch_size=8",
    "epochs=3",
    "seed=1",
    "device=cpu",
    "threads=1",
    "trainer.log_every=3",
    "trainer.checkpoint_minutes=60.0",
    "trainer.progress=false",
    "trainer.summary=false",
    "logger=none",
]


@cache
def base() -> str:
    """The tiny run's config, as JSON."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return json.dumps(compose_config(compose("config", OVERRIDES)).to_dict())


def make_config(**changes: Any) -> Config:
    """The tiny config with changes; a double underscore goes one section down: ``trainer__accumulate=2``."""
    config = json.loads(base())
    for key, value in changes.items():
        *sections, name = key.split("__")
        target = config
        for section in sections:
            target = target[section]
        target[name] = value
    return Config.model_validate(config)


def make_data(train: int = 80, val: int = 24, test: int = 0) -> TextData:
    """Sequences of ids 2 to 9; the class is whether the last id is above 5, in a quarter of them by chance."""
    rng = np.random.default_rng(0)

    def split(size: int) -> EncodedSplit:
        sequences = [rng.integers(2, 10, size=rng.integers(3, 9)) for _ in range(size)]
        labels = [int(ids[-1] > 5) if rng.random() > 0.25 else int(rng.integers(2)) for ids in sequences]
        return EncodedSplit.from_sequences(sequences, labels)

    splits = {name: split(size) for name, size in (("train", train), ("val", val), ("test", test)) if size}
    shares = {name: float(np.bincount(part.labels).max() / len(part)) for name, part in splits.items()}
    baseline = {name: {"accuracy": share} for name, share in shares.items()}
    spec = DataSpec(
        vocab_size=10,
        class_names=("low", "high"),
        pad_id=0,
        unk_id=1,
        baseline=baseline,
    )
    data = TextData(spec=spec, splits=splits, encoder=None, read=None, whole=splits)  # type: ignore[arg-type]
    object.__setattr__(data, "text", lambda name, example: f"{name} {example}")
    return data


def make_trainer(
    cfg: Config, tracker: Tracker, folder: Path, data: TextData | None = None, world: World = ALONE
) -> Trainer:
    """Build everything as the door does."""
    device = prepare(device=cfg.device, seed=cfg.seed, deterministic=cfg.deterministic, threads=cfg.threads)
    data = data or make_data()
    task = build_task(cfg, data.spec)
    model: nn.Module = task.build_model(cfg, data.spec)
    return Trainer(cfg, model, task, data, tracker, folder, device, world)


def run(
    cfg: Config,
    folder: Path,
    *,
    resume: bool = False,
    data: TextData | None = None,
    pictures: bool = False,
    world: World = ALONE,
) -> tuple[Trainer, dict[str, Any]]:
    """Train in a folder, from the start or from where it was left; drawing takes longer than all the rest."""
    with ExitStack() as stack:
        if not pictures:
            stack.enter_context(patch("src.tracking.tracker.draw_curves"))
            stack.enter_context(patch("src.tasks.classification.Classification.report", return_value={}))
        if world.main:
            stack.enter_context(RunFolder(folder, cfg.to_dict(), resume=resume))
        tracker = stack.enter_context((Tracker if world.main else SilentTracker)(cfg, folder))
        trainer = make_trainer(cfg, tracker, folder, data, world)
        if resume:
            trainer.resume()
        return trainer, trainer.fit()


def in_a_process(
    folder: Path,
    options: dict[str, Any],
    *,
    resume: bool = False,
    kill_at: int | None = None,
    signum: int = 9,
    kill_in: str = "_train_step",
) -> int:
    """Train in a process of its own, which gets a signal after update ``kill_at``; return its exit code.

    ``kill_in`` is the step of the loop whose beginning it comes at.

    Processes are forked from a server that has imported everything, and has never run a thread.
    """
    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # for the server, which starts with the first call
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tiny"])
    process = context.Process(target=_child, args=(folder, options, resume, kill_at, signum, kill_in))
    process.start()
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _child(folder: Path, options: dict[str, Any], resume: bool, kill_at: int | None, signum: int, kill_in: str) -> None:
    original = getattr(Trainer, kill_in)

    def step(self: Trainer, *arguments: Any) -> Any:
        if self.position.step == kill_at:
            os.kill(os.getpid(), signum)
        return original(self, *arguments)

    setattr(Trainer, kill_in, step)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the server leaves it ignored
    torch.set_num_threads(1)
    try:
        run(make_config(**options), folder, resume=resume)
    except Interrupted as error:
        sys.exit(error.exit_code)
