"""What the loop promises of the weights it leaves."""

import copy
import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import tiny
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from src.errors import RequestError, RunError
from src.tracking import Tracker, read_metrics
from src.training import FirstBatches, Trainer, evaluate, load_checkpoint

STILL: dict[str, Any] = {"dropout": 0.0, "task__word_dropout": 0.0}  # nothing random in the forward pass


@pytest.fixture
def trainer_of(tmp_path: Path) -> Iterator[Callable[..., Trainer]]:
    """Make trainers that write to the test's folder."""
    with ExitStack() as open_until_the_end:

        def make(**changes: Any) -> Trainer:
            cfg = tiny.make_config(**changes)
            tracker = open_until_the_end.enter_context(Tracker(cfg, tmp_path))
            return tiny.make_trainer(cfg, tracker, tmp_path)

        yield make


@pytest.mark.parametrize(("size", "times"), [(12, 1), (4, 3), (5, 3)], ids=["3x4", "1x12", "uneven 5+5+2"])
def test_accumulated_batches_equal_one_large_batch(trainer_of: Callable[..., Trainer], size: int, times: int) -> None:
    """Gradients of three updates in float64, to 1e-10, whether or not the parts are of one size."""
    batch = next(iter(tiny.make_data().loader("train", 12).epoch(0)))
    parts = [type(batch)(*(t[..., i : i + size] for t in batch)) for i in range(0, 12, size)]
    assert len(parts) == times
    results = []
    for batches in ([batch], parts):
        trainer = trainer_of(clip=0.01, **STILL)
        trainer.model.double()
        for _ in range(3):
            trainer._train_step(batches)
        results.append((trainer.pending, list(trainer.model.parameters())))
    (whole, weights), (split, others) = results
    for left, right in zip(whole, split, strict=True):
        torch.testing.assert_close(left.loss, right.loss, rtol=0, atol=1e-10)
        torch.testing.assert_close(left.norms_P, right.norms_P, rtol=0, atol=1e-10)
    for left, right in zip(weights, others, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=1e-10)


def test_last_group_of_an_epoch_may_be_smaller(tmp_path: Path) -> None:
    _, summary = tiny.run(tiny.make_config(epochs=2, trainer__accumulate=4), tmp_path / "run")
    assert summary["steps"] == 2 * 3  # ten batches: 4 + 4 + 2


def test_a_cell_that_keeps_weights_in_bounds_is_asked_to_after_every_update(trainer_of: Callable[..., Trainer]) -> None:
    options = {"activation": "relu", "bound": 0.5}
    trainer = trainer_of(model__cell="indrnn", model__options=options, backend="loop", lr=0.3)
    trainer.train_epoch()
    weights = [value for name, value in trainer.model.named_parameters() if name.endswith("weight_hh")]
    assert all(weight.abs().max() == 0.5 for weight in weights)


@pytest.mark.parametrize("clip_by", ["norm", "value"])
def test_clipping_is_torchs_and_the_norm_before_it_is_logged(trainer_of: Callable[..., Trainer], clip_by: str) -> None:
    trainer = trainer_of(clip=0.01, trainer__clip_by=clip_by, **STILL)
    reference = copy.deepcopy(trainer.model)
    batch = next(iter(trainer.train_batches.epoch(0)))
    trainer.task.step(reference, batch, None).loss.backward()
    if clip_by == "norm":
        norm = nn.utils.clip_grad_norm_(reference.parameters(), 0.01)
    else:
        norm = nn.utils.get_total_norm([parameter.grad for parameter in reference.parameters()])
        nn.utils.clip_grad_value_(reference.parameters(), 0.01)
    seen = {}
    trainer.schedule.by_step = None
    trainer.optimizer.step = lambda: seen.update({n: p.grad.clone() for n, p in trainer.model.named_parameters()})
    trainer._train_step([batch])
    torch.testing.assert_close(trainer.pending[0].norm, norm, rtol=1e-6, atol=0)
    assert norm > 0.01
    for name, parameter in reference.named_parameters():
        torch.testing.assert_close(seen[name], parameter.grad, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop"])
def test_mixed_precision_trains_and_resumes(tmp_path: Path, amp: str, optimizer: str) -> None:
    options: dict[str, Any] = {"amp": amp, "epochs": 2}
    if optimizer == "rmsprop":
        options["optimizer"] = {"name": "rmsprop", "alpha": 0.9, "eps": 1e-8, "momentum": 0.0, "centered": False}
    trainer, _ = tiny.run(tiny.make_config(**options), tmp_path / "run")
    assert all(parameter.dtype == torch.float32 for parameter in trainer.model.parameters())
    losses = [line["train/loss"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if "train/loss" in line]
    assert all(0.3 < loss < 1.2 for loss in losses)
    scaler = load_checkpoint(tmp_path / "run" / "last.ckpt")["scaler"]
    assert bool(scaler) == (amp == "fp16")
    tiny.run(tiny.make_config(**options | {"epochs": 3}), tmp_path / "run", resume=True)


def test_fp16_overflow_lowers_the_scale_and_is_no_fault(trainer_of: Callable[..., Trainer]) -> None:
    trainer = trainer_of(amp="fp16", **STILL)
    batch = next(iter(trainer.train_batches.epoch(0)))
    before = copy.deepcopy(trainer.model.state_dict())
    trainer.scaler._init_scale = 1e38
    trainer._train_step([batch])
    trainer._look()
    assert trainer.scaler.get_scale() == pytest.approx(5e37, rel=1e-3)
    assert trainer.position.skipped == 0
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())


def break_step(trainer: Trainer, at: int, where: str) -> None:
    """Make the loss, or one parameter's gradient, not finite in one step."""
    original, calls = trainer.task.step, iter(range(1, 10_000))

    def step(model: nn.Module, batch: Any, carry: Any) -> Any:
        result = original(model, batch, carry)
        if model.training and next(calls) == at:
            if where == "loss":
                return result._replace(loss=result.loss * math.inf)
            dict(model.named_parameters())["head.1.bias"].register_hook(lambda g: g * hurt.pop() if hurt else g)
        return result

    hurt = [math.nan]
    trainer.task.step = step


@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_nonfinite_stops_before_the_update_and_says_where(trainer_of: Callable[..., Trainer], where: str) -> None:
    trainer = trainer_of(**STILL)
    break_step(trainer, 4, where)
    weights: list[dict[str, Any]] = []
    original = trainer._train_step

    def train_step(batches: Any) -> None:
        weights.append(copy.deepcopy(trainer.model.state_dict()))
        original(batches)

    trainer._train_step = train_step
    with pytest.raises(RunError, match=r"step 4: not finite.*Try a lower lr") as caught:
        trainer.fit()
    assert len(weights) == 4
    assert all(torch.equal(value, weights[-1][name]) for name, value in trainer.model.state_dict().items())
    if where == "gradient":
        assert "in head.1.bias (" in str(caught.value)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_nonfinite_skip_counts_and_goes_on_as_if_that_batch_had_not_been(
    trainer_of: Callable[..., Trainer], optimizer: str
) -> None:
    options: dict[str, Any] = {"trainer__nonfinite": "skip", "scheduler": {"name": "constant"}, "epochs": 1, **STILL}
    if optimizer == "sgd":
        options["optimizer"] = {"name": "sgd", "momentum": 0.9, "nesterov": False}
    hurt, clean = trainer_of(**options), trainer_of(**options)
    break_step(hurt, 1, "loss")
    batches = list(hurt.train_batches.epoch(0))
    for batch in batches:
        hurt._train_step([batch])
        hurt._look()
    for batch in batches[1:]:
        clean._train_step([batch])
    assert hurt.position.skipped == 1
    assert math.isfinite(hurt.window.mean_loss)
    for left, right in zip(hurt.model.parameters(), clean.model.parameters(), strict=True):
        assert torch.equal(left, right)


def test_skipped_steps_are_in_the_metrics_and_told_once_a_log(
    tmp_path: Path, trainer_of: Callable[..., Trainer], capfd: pytest.CaptureFixture[str]
) -> None:
    trainer = trainer_of(trainer__nonfinite="skip", epochs=1, **STILL)
    original = trainer.task.step

    def step(model: nn.Module, batch: Any, carry: Any) -> Any:
        result = original(model, batch, carry)
        hurt = model.training and 3 <= trainer.position.step < 8  # updates 4 to 8: all of 4 to 6, two of 7 to 9
        return result._replace(loss=result.loss * math.nan) if hurt else result

    trainer.task.step = step
    trainer.train_epoch()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [(line["step"], line.get("train/skipped")) for line in lines] == [(3, None), (6, 3), (9, 5), (10, 5)]
    assert lines[1]["train/loss"] is None
    assert lines[2]["train/loss"] > 0
    warnings = [line for line in capfd.readouterr().out.splitlines() if line.startswith("warning")]
    assert [line.rpartition("(")[2] for line in warnings] == ["3 so far)", "5 so far)"]
    trainer._close_epoch()
    assert 0.3 < read_metrics(tmp_path / "metrics.jsonl")[-1]["train_epoch/loss"] < 1.2  # of the steps that were made


def test_run_that_ends_between_evaluations_is_evaluated(tmp_path: Path) -> None:
    """Time is looked at after a step only, so that a limit never comes between an epoch and its evaluation."""
    cfg = tiny.make_config(epochs=5, trainer__eval_every=4, max_steps=20)
    _, summary = tiny.run(cfg, tmp_path / "run")
    assert (summary["steps"], summary["final"]["epoch"]) == (20, 2)


def test_average_is_the_moving_average_of_the_weights_and_is_what_is_judged(trainer_of: Callable[..., Trainer]) -> None:
    trainer = trainer_of(trainer__average=0.8, **STILL)
    reference = AveragedModel(trainer.model, multi_avg_fn=get_ema_multi_avg_fn(0.8))
    for batch in trainer.train_batches.epoch(0):
        trainer._train_step([batch])
        reference.update_parameters(trainer.model)
    assert trainer.average is not None
    for left, right in zip(trainer.average.module.parameters(), reference.module.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-6, atol=1e-7)
    judged = trainer._evaluate("val")
    direct = evaluate(trainer.task, trainer.average.module, trainer.val_batches, trainer.device).compute()
    assert judged["val/loss"] == direct["loss"]
    assert (
        judged["val/loss"]
        != evaluate(trainer.task, trainer.model, trainer.val_batches, trainer.device).compute()["loss"]
    )


def test_early_stopping_counts_across_a_break(tmp_path: Path) -> None:
    stuck: dict[str, Any] = {"lr": 1e-12, "scheduler": {"name": "constant"}, "trainer__patience": 3, **STILL}
    _, summary = tiny.run(tiny.make_config(epochs=9, **stuck), tmp_path / "one")
    assert summary["steps"] == 4 * 10  # the first is the best, then three without a better one
    tiny.run(tiny.make_config(epochs=2, **stuck), tmp_path / "two")
    assert load_checkpoint(tmp_path / "two" / "last.ckpt")["stopping"]["waited"] == 1
    _, summary = tiny.run(tiny.make_config(epochs=9, **stuck), tmp_path / "two", resume=True)
    assert summary["steps"] == 4 * 10
    assert summary["best"]["epoch"] == 1


def test_best_checkpoint_is_the_best_epochs_and_last_the_last(tmp_path: Path) -> None:
    _, summary = tiny.run(tiny.make_config(epochs=4, lr=0.05), tmp_path / "run")
    lines = [line for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if "val/accuracy" in line]
    accuracies = [line["val/accuracy"] for line in lines]
    best = max(accuracies)
    assert summary["best"]["val/accuracy"] == best
    assert summary["best"]["epoch"] == accuracies.index(best) + 1
    assert load_checkpoint(tmp_path / "run" / "best.ckpt")["position"]["epoch"] == summary["best"]["epoch"]
    assert load_checkpoint(tmp_path / "run" / "last.ckpt")["position"]["epoch"] == 4


def test_min_mode_monitors_the_smallest(tmp_path: Path) -> None:
    cfg = tiny.make_config(epochs=3, trainer__monitor="val/loss", trainer__mode="min", lr=0.05)
    _, summary = tiny.run(cfg, tmp_path / "run")
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert summary["best"]["val/loss"] == min(line["val/loss"] for line in lines if "val/loss" in line)


def test_unknown_monitor_is_refused_before_training(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"trainer.monitor=val/acuracy.*did you mean val/accuracy"):
        tiny.run(tiny.make_config(trainer__monitor="val/acuracy"), tmp_path / "run")
    assert read_metrics(tmp_path / "run" / "metrics.jsonl") == []


def test_evaluation_changes_nothing_of_the_training(tmp_path: Path) -> None:
    often, once = tmp_path / "often", tmp_path / "once"
    options: dict[str, Any] = {"epochs": 2, "scheduler": {"name": "constant"}}
    tiny.run(tiny.make_config(**options), often)
    tiny.run(tiny.make_config(trainer__eval_every=2, **options), once)
    left, right = load_checkpoint(often / "last.ckpt"), load_checkpoint(once / "last.ckpt")
    assert all(torch.equal(left["model"][name], right["model"][name]) for name in left["model"])
    assert len([line for line in read_metrics(once / "metrics.jsonl") if "val/loss" in line]) == 1


def test_deterministic_and_seed_decide_the_run(tmp_path: Path) -> None:
    weights = []
    try:
        for name, seed in (("a", 5), ("b", 5), ("c", 6)):
            tiny.run(tiny.make_config(epochs=1, deterministic=True, seed=seed), tmp_path / name)
            weights.append(load_checkpoint(tmp_path / name / "last.ckpt")["model"])
    finally:
        torch.use_deterministic_algorithms(False)
    a, b, c = weights
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


def test_summary_and_metrics_have_the_promised_shape(tmp_path: Path) -> None:
    cfg = tiny.make_config(epochs=2)
    trainer, _ = tiny.run(cfg, tmp_path / "run", data=tiny.make_data(test=16))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {"val/accuracy", "epoch"} <= summary["best"].keys()
    assert {"val/accuracy", "val/loss", "val/macro_f1"} <= summary["final"].keys()
    assert {"test/accuracy", "test/loss", "test/baseline"} <= summary["test"].keys()
    assert summary["params"] == sum(parameter.numel() for parameter in trainer.model.parameters())
    assert summary["steps"] == 20
    assert summary["seconds"] > 0
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["step"] for line in lines if "train/loss" in line] == [3, 6, 9, 10, 12, 15, 18, 20]
    assert [line["epoch"] for line in lines if "val/loss" in line] == [1, 2]
    for line in lines:
        assert {"step", "epoch", "time"} <= line.keys()
    train = next(line for line in lines if "train/loss" in line)
    assert {"train/loss", "train/grad_norm", "train/lr", "train/tokens_per_second"} <= train.keys()


def test_limit_batches_and_overfit_see_only_those_batches(trainer_of: Callable[..., Trainer]) -> None:
    trainer = trainer_of(trainer__limit_batches=2)
    assert (len(trainer.train_batches), len(trainer.val_batches)) == (2, 2)
    assert len(list(trainer.train_batches.epoch(1, 1))) == 1
    one = trainer_of(trainer__overfit=True)
    batches = [next(iter(source.epoch(epoch))) for source in (one.train_batches, one.val_batches) for epoch in (0, 3)]
    assert all(torch.equal(batch.inputs, batches[0].inputs) for batch in batches)
    assert isinstance(one.train_batches, FirstBatches)


def test_overfitting_one_batch_reaches_a_loss_of_nearly_nothing(tmp_path: Path) -> None:
    cfg = tiny.make_config(
        epochs=150, lr=0.05, scheduler={"name": "constant"}, trainer__overfit=True, trainer__eval_every=150, **STILL
    )
    _, summary = tiny.run(cfg, tmp_path / "run")
    assert summary["final"]["val/loss"] < 0.02


def test_profile_says_where_the_time_goes(tmp_path: Path) -> None:
    tiny.run(tiny.make_config(epochs=2, trainer__profile=True), tmp_path / "run")
    assert "aten::" in (tmp_path / "run" / "profile.txt").read_text()
    assert json.loads((tmp_path / "run" / "trace.json").read_text())["traceEvents"]


@pytest.mark.slow
def test_compiled_model_trains_to_the_same_and_its_checkpoint_fits_the_plain_one(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 1, "trainer__limit_batches": 2, "depth": 1, **STILL}
    tiny.run(tiny.make_config(compile=True, **options), tmp_path / "compiled")
    tiny.run(tiny.make_config(**options), tmp_path / "plain")
    left, right = (load_checkpoint(tmp_path / name / "last.ckpt")["model"] for name in ("compiled", "plain"))
    for name in right:
        torch.testing.assert_close(left[name], right[name], rtol=1e-4, atol=1e-5)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("amp", ["off", "bf16", "fp16"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
def test_no_step_waits_for_the_gpu(trainer_of: Callable[..., Trainer], amp: str, optimizer: str) -> None:
    options = {
        "adam": {"name": "adam", "betas": [0.9, 0.99], "eps": 1e-8, "amsgrad": False},
        "adamw": {"name": "adamw", "betas": [0.9, 0.99], "eps": 1e-8, "amsgrad": False},
        "rmsprop": {"name": "rmsprop", "alpha": 0.9, "eps": 1e-8, "momentum": 0.5, "centered": False},
        "sgd": {"name": "sgd", "momentum": 0.9, "nesterov": False},
    }[optimizer]
    trainer = trainer_of(device="cuda", amp=amp, optimizer=options, trainer__average=0.9)
    batches = list(trainer.train_batches.epoch(0))
    for batch in batches[:2]:  # first calls set things up
        trainer._train_step([batch])
    torch.cuda.set_sync_debug_mode("error")
    try:
        for batch in batches[2:]:
            trainer._train_step([batch])
    finally:
        torch.cuda.set_sync_debug_mode("default")
    trainer._log_training()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "sgd"])
def test_nonfinite_on_the_gpu_is_no_update_and_is_told_at_the_next_log(
    trainer_of: Callable[..., Trainer], optimizer: str
) -> None:
    options = {
        "adam": {"name": "adam", "betas": [0.9, 0.99], "eps": 1e-8, "amsgrad": False},
        "rmsprop": {"name": "rmsprop", "alpha": 0.9, "eps": 1e-8, "momentum": 0.5, "centered": False},
        "sgd": {"name": "sgd", "momentum": 0.9, "nesterov": False},
    }[optimizer]
    trainer = trainer_of(device="cuda", optimizer=options, scheduler={"name": "constant"}, **STILL)
    break_step(trainer, 1, "gradient")
    before = copy.deepcopy(trainer.model.state_dict())
    trainer._train_step([next(iter(trainer.train_batches.epoch(0)))])
    assert all(torch.equal(value, before[name]) for name, value in trainer.model.state_dict().items())
    with pytest.raises(RunError, match=r"step 1: not finite in head.1.bias"):
        trainer._log_training()


@pytest.mark.parametrize(
    "broken", ["src.tasks.classification.Classification.report", "src.tracking.tracker.draw_curves"]
)
def test_a_report_that_fails_is_told_and_the_run_is_done(
    tmp_path: Path, broken: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with patch(broken, side_effect=MemoryError("no room for the picture")):
        _, summary = tiny.run(tiny.make_config(epochs=1), tmp_path / "run", pictures=True)
    assert (tmp_path / "run" / "DONE").exists() and not (tmp_path / "run" / "FAILED").exists()
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["best"] == summary["best"]
    assert "is whole without it (MemoryError: no room for the picture)" in capfd.readouterr().out
