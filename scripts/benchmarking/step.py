"""Section ``step``: a training step of ``experiment=seed_gru`` as the trainer makes it, beside torch.nn.GRU alone."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarking import pictures
from benchmarking.cases import case
from benchmarking.section import Plan, Row, Section
from benchmarking.stacks import TORCH, torch_call
from benchmarking.timing import Call, Times, interleave

STEPS = 20  # of training in one timed call
TARGET = 10
STEP, STACK = "training step", "its stack alone"


def measure(plan: Plan) -> Iterator[Row]:
    """One row: the whole step, the stack's forward and backward in it, and torch.nn.GRU's."""
    size = plan.sizes[0] if plan.sizes else (5, 2, 100, 32)
    one = case("gru", size, "forward+backward")
    with ExitStack() as open_things:
        steps = training_steps(open_things, one.widths[0], len(one.widths), one.time, one.batch)
        calls = {STEP: steps, STACK: torch_call(one, "auto"), TORCH: torch_call(one, TORCH)}
        times = interleave(calls, plan.seconds)
    median, low, high, calls_made = times[STEP]
    times[STEP] = Times(median / STEPS, low / STEPS, high / STEPS, calls_made)
    yield {
        "cell": "gru",
        "size": one.shape,
        "ratios": {name: times[TORCH].median / times[name].median for name in (STEP, STACK)},
        "milliseconds": {name: value._asdict() for name, value in times.items()},
    }


def training_steps(open_things: ExitStack, width: int, depth: int, time: int, batch: int) -> Call:
    """Twenty steps of the trainer's own loop on the real reviews: gather, model, loss, clipping, Adam, logging."""
    from hydra import compose, initialize_config_dir

    from src.arguments import CONF
    from src.config import compose_config
    from src.data.build import build_data
    from src.tasks.build import build_task
    from src.tracking import Tracker
    from src.training import Trainer, prepare

    changes = [f"width={width}", f"depth={depth}", f"data.max_length={time}", f"batch_size={batch}", "clip=1.0"]
    still = ["logger=none", "trainer.progress=false", "trainer.summary=false", f"trainer.limit_batches={STEPS}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose_config(compose("config", ["experiment=seed_gru", *changes, *still]))
    device = prepare(device="cpu", seed=cfg.seed, deterministic=False, threads=None)
    data = build_data(cfg.data, cfg.seed)
    task = build_task(cfg, data.spec)
    folder = Path(open_things.enter_context(tempfile.TemporaryDirectory()))
    tracker = open_things.enter_context(Tracker(cfg, folder))
    trainer = Trainer(cfg, task.build_model(cfg, data.spec), task, data, tracker, folder, device)

    def steps() -> None:
        trainer.position.batch = 0
        trainer.train_epoch()

    return steps


def header(rows: list[Row]) -> list[str]:
    """Ratios first."""
    return [
        "H x L x T x B",
        f"whole step: torch.nn.GRU's forward+backward over it (at least {TARGET})",
        "our stack alone",
        "whole step, ms",
        "our stack, ms",
        "torch.nn.GRU, ms",
    ]


def line(one: Row, head: list[str]) -> list[str]:
    """One row of the table."""
    ratios = [f"{one['ratios'][name]:.1f}x" for name in (STEP, STACK)]
    return [one["size"], *ratios, *(str(Times(**one["milliseconds"][name])) for name in (STEP, STACK, TORCH))]


def draw(rows: list[Row], path: Path) -> None:
    """Milliseconds of each."""
    values = [(name, rows[0]["milliseconds"][name]["median"]) for name in (STEP, STACK, TORCH)]
    pictures.bars([("seed_gru: milliseconds", values)], path, at=values[-1][1] / TARGET)


SECTION = Section("A training step of `experiment=seed_gru`", measure, header, line, draw)
