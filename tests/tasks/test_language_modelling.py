"""Language modelling: carried state is real, metrics can be worked out by hand, and a run goes on bit for bit."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from helpers import composed, write_reviews

from deep_rnn.stack import DeepRNN
from src.config import Config, compose_config
from src.data.base import DataSpec
from src.data.build import build_data
from src.data.stream import join
from src.data.text_data import TextData
from src.errors import RequestError
from src.modules.penalties import activation_penalty, temporal_penalty
from src.tasks.build import build_task
from src.tasks.language_model import LanguageModelling, measures
from src.tracking import RunFolder, Tracker, read_metrics
from src.training import Trainer, evaluate, load_checkpoint, prepare

SMALL = ["data=plain_text", "model=gru", "depth=1", "width=24", "task.embedding=12", "batch_size=8", "lr=0.02"]
QUIET = ["logger=none", "trainer.summary=false", "trainer.progress=false", "device=cpu", "threads=1", "seed=1"]


def recall(lines: int = 1200, seed: int = 0) -> str:
    """Lines such as ``x...x``: who has forgotten how a line began cannot know how it ends."""
    letters = np.random.default_rng(seed).choice(list("abcdefgh"), lines)
    return "".join(f"{letter}...{letter}\n" for letter in letters)


def config(path: Path, *overrides: str) -> Config:
    return compose_config(composed(*SMALL, *QUIET, f"data.path={path}", "data.cache_dir=null", *overrides))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "recall.txt"
    path.write_text(recall())
    return path


def run(cfg: Config, folder: Path, data: Any, resume: bool = False) -> Trainer:
    """Train in a folder as the door does."""
    device = prepare(device=cfg.device, seed=cfg.seed, deterministic=False, threads=cfg.threads)
    task = build_task(cfg, data.spec)
    model = task.build_model(cfg, data.spec)
    with (
        patch("src.tracking.tracker.draw_curves"),
        RunFolder(folder, cfg.to_dict(), resume=resume),
        Tracker(cfg, folder) as tracker,
    ):
        trainer = Trainer(cfg, model, task, data, tracker, folder, device)
        if resume:
            trainer.resume()
        trainer.fit()
        return trainer


Trained = tuple[Config, TextData, LanguageModelling, Any]


@pytest.fixture(scope="module")
def trained(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    cfg = config(text, "task.bptt=12", "epochs=8", "width=48", "task.embedding=24")
    data: Any = build_data(cfg.data, cfg.seed)
    trainer = run(cfg, tmp_path_factory.mktemp("run") / "run", data)
    task: Any = trainer.task
    return cfg, data, task, trainer.model


def judged(trained: Trained, columns: int, bptt: int, keep: bool = True) -> dict[str, float]:
    """Metrics of the validation part, in chunks of this length, with the state kept or thrown away."""
    cfg, data, _, model = trained
    options: Any = cfg.task
    own = LanguageModelling(options.model_copy(update={"eval_columns": columns, "bptt": bptt}), data.spec)
    if not keep:
        whole_step = own.step
        own.step = lambda *arguments: whole_step(*arguments)._replace(carry=None)  # type: ignore[method-assign]
    return evaluate(own, model, own.batches(data, "val", 1), torch.device("cpu")).compute()


@pytest.mark.parametrize("bptt", [2, 7, 64])
@pytest.mark.parametrize("columns", [1, 3])
def test_evaluation_in_chunks_is_that_of_the_whole_stream_in_one_go(trained: Trained, columns: int, bptt: int) -> None:
    chunks, whole = judged(trained, columns, bptt), judged(trained, columns, 10**6)
    for name, value in whole.items():
        assert chunks[name] == pytest.approx(value, rel=2e-6)  # float32, sums in another order


def test_a_model_that_may_remember_is_better_than_chance_and_than_itself_with_the_state_thrown_away(
    trained: Trained,
) -> None:
    _, data, task, _ = trained
    kept, thrown = judged(trained, 1, 3), judged(trained, 1, 3, keep=False)
    assert task.baseline(data, "val")["loss"] > 1.2
    assert kept["loss"] < math.log(8) / 6 + 0.05  # a new letter a line is all that nobody can know
    assert thrown["loss"] > kept["loss"] + 0.1  # ... and the other one too, once it is forgotten


def test_metrics_are_those_of_the_definition(trained: Trained) -> None:
    _, data, _, model = trained
    ids = torch.from_numpy(join(data.whole["val"]).astype(np.int64))
    with torch.inference_mode():
        logs = model.log_probabilities(model(ids[:-1, None]).features[:, 0])
    nats = -logs.gather(1, ids[1:, None]).mean().item()
    found = judged(trained, 1, 16)
    assert found == {
        "loss": pytest.approx(nats, rel=1e-5),
        "perplexity": pytest.approx(math.exp(nats), rel=1e-5),
        "bits_per_character": pytest.approx(nats / math.log(2), rel=1e-5),
    }
    assert measures(800.0, 1, 0) == {"loss": 800.0, "perplexity": math.inf}


def test_the_baseline_knows_how_often_each_token_stands_in_the_training_part(trained: Trained) -> None:
    _, data, task, _ = trained
    counts = np.bincount(join(data.whole["train"]), minlength=data.spec.vocab_size) + 1
    targets = join(data.whole["val"])[1:]
    wanted = -np.log(counts[targets] / counts.sum()).mean()
    assert task.baseline(data, "val")["loss"] == pytest.approx(wanted, rel=1e-12)
    assert task.baseline(data, "val")["perplexity"] == pytest.approx(math.exp(wanted), rel=1e-12)


def test_a_stream_holds_the_reviews_whole_and_none_of_the_held_out_ones(tmp_path: Path) -> None:
    write_reviews(tmp_path / "reviews.csv", count=50)
    cfg = compose_config(
        composed("data=text_file", "task=language_model", f"data.path={tmp_path}/reviews.csv", "data.max_length=2")
    )
    data: Any = build_data(cfg.data.model_copy(update={"cache_dir": None}), 0)
    task: Any = build_task(cfg, data.spec)
    for split in ("train", "val"):
        whole = data.whole[split]
        assert whole.lengths.max() > 2 and data.splits[split].lengths.max() == 2
        loader = task.batches(data, split, 1)
        assert loader.ids.tolist() == join(whole).tolist() and len(loader.ids) == len(whole.ids) + len(whole)
    texts = {split: data.read().splits[split].texts for split in ("train", "val")}
    assert len(texts["val"]) == 10 and len(texts["train"]) == 40
    assert [*data.encoder.encode_whole(texts["train"]).ids] == [*data.whole["train"].ids]


# ------------------------------------------------------------------------------------------------------ training
def test_penalties_are_those_of_awd_lstm_and_count_in_training_only(text: Path) -> None:
    cfg = config(text, "regularise=awd", "regularise.weight_drop=0", "dropout=0.4")
    data: Any = build_data(cfg.data, 0)
    task: Any = build_task(cfg, data.spec)
    model = task.build_model(cfg, data.spec)
    batch = next(task.batches(data, "train", 4, shuffle=True).epoch())
    torch.manual_seed(0)
    result = task.step(model.train(), batch, None)
    torch.manual_seed(0)
    reading = model(batch.inputs)
    plain = model.nats(reading.features, batch.targets) / batch.targets.numel()
    extra = 2 * activation_penalty(reading.features) + temporal_penalty(reading.output)
    torch.testing.assert_close(result.loss, plain + extra)
    assert not any(value.requires_grad for layer in result.carry.layers for value in layer)
    result = task.step(model.eval(), batch, None)
    torch.testing.assert_close(result.loss, result.outputs["nats"] / batch.targets.numel())


def test_the_learning_rate_of_a_chunk_is_in_proportion_to_its_length(text: Path, tmp_path: Path) -> None:
    cfg = config(text, "task.bptt=20", "task.bptt_jitter=true", "epochs=1", "trainer.log_every=1")
    trainer = run(cfg, tmp_path / "run", build_data(cfg.data, 0))
    lengths = [len(batch.inputs) for batch in trainer.train_batches.epoch(0)]
    rates = [line["train/lr"] for line in read_metrics(tmp_path / "run" / "metrics.jsonl") if "train/lr" in line]
    assert len(set(lengths)) > 3
    assert rates == [pytest.approx(0.02 * length / 20) for length in lengths]
    assert trainer.optimizer.param_groups[0]["lr"] == 0.02


def test_dropout_of_the_last_layer_stands_where_the_softmax_reads(text: Path) -> None:
    cfg = config(text, "depth=2", "dropout=[0.2,0.4]")
    data: Any = build_data(cfg.data, 0)
    model = build_task(cfg, data.spec).build_model(cfg, data.spec)
    assert isinstance(model.rnn, DeepRNN) and model.dropout == 0.4
    assert [layer.rates.dropout for layer in model.rnn.layers] == [0.2, 0.0]


@pytest.mark.parametrize("steps", [3, 31, 66])
def test_a_run_resumed_in_mid_epoch_goes_on_with_the_state_it_carried(text: Path, tmp_path: Path, steps: int) -> None:
    changes = ["model=lstm", "depth=2", "dropout=0.2", "task.bptt=20", "task.bptt_jitter=true", "epochs=4", "lr=2"]
    changes += ["optimizer=sgd", "trainer.average=uniform", "trainer.average_after=1", "trainer.accumulate=2"]
    changes += ["regularise=awd", "scheduler=constant", "clip=0.25"]
    cfg = config(text, *changes)
    upside_down = cfg.trainer.model_copy(update={"mode": "max"})  # takes learning for getting worse: the average begins
    cfg = cfg.model_copy(update={"trainer": upside_down})
    data: Any = build_data(cfg.data, 0)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(cfg, whole, data)
    run(cfg.model_copy(update={"max_steps": steps}), cut, data)
    assert load_checkpoint(cut / "last.ckpt")["carry"] is not None
    run(cfg, cut, data, resume=True)
    wanted, got = load_checkpoint(whole / "last.ckpt"), load_checkpoint(cut / "last.ckpt")
    assert wanted["position"]["step"] == got["position"]["step"] > steps
    for name, value in wanted["model"].items():
        assert torch.equal(value, got["model"][name]), name
    assert all(torch.equal(a["torch"], b["torch"]) for a, b in zip(wanted["rng"], got["rng"], strict=True))
    assert wanted["averaging"] == got["averaging"] and got["averaging"]["updates"] > 0
    for name, value in wanted["average"].items():
        assert torch.equal(value, got["average"][name]), name


@pytest.mark.parametrize(
    ("recipe", "small"),
    [
        ("awd_lstm", ["width=[48,24]", "task.embedding=24", "epochs=8"]),
        ("rhn", ["width=24", "task.embedding=24", "epochs=5", "lr=0.02", "model.options.transition_depth=3"]),
        ("word_lm", ["width=24", "task.embedding=24", "epochs=6", "lr=0.02", "data/tokenizer=word"]),
        ("char_lm", ["width=24", "task.embedding=12", "epochs=5", "lr=0.02"]),
    ],
)
def test_every_recipe_learns_at_a_small_size_what_chance_does_not_know(
    text: Path, tmp_path: Path, recipe: str, small: list[str]
) -> None:
    own = ["data=plain_text", f"data.path={text}", "data.cache_dir=null", "data.holdout=0.1", "batch_size=8"]
    own += ["task.bptt=12", "task.parts=1", *(["data.tokenizer.rule=whitespace_lines"] if recipe == "word_lm" else [])]
    cfg = compose_config(composed(f"experiment={recipe}", *small, *own, *QUIET))
    data: Any = build_data(cfg.data, 0)
    trainer = run(cfg, tmp_path / "run", data)
    assert trainer.latest["val/loss"] < trainer.task.baseline(data, "val")["loss"] - 0.25


# --------------------------------------------------------------------------------------------------- bad requests
@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["bidirectional=true"], r"a bidirectional model would see the tokens"),
        (["bidirectional=stacks"], r"a bidirectional model would see the tokens"),
        (["task.cutoffs=[4]"], r"task: the adaptive softmax .* cannot be tied"),
        (["task.cutoffs=[400]", "task.tied=false"], r"cutoffs must rise within the vocabulary, from 1 to 11"),
        (["task.bptt=1"], r"task\.bptt=1: should be greater than or equal to 2"),
        (["task.parts=100"], r"in each of batch_size=8 columns of task\.parts=100 parts \(28,001\)"),
        (["task.bptt=1000"], r"'train' has 6,480 tokens, fewer than one chunk of task\.bptt=1000 steps in each of"),
    ],
)
def test_what_cannot_be_learned_is_refused_in_one_line(text: Path, overrides: list[str], said: str) -> None:
    with pytest.raises(RequestError, match=said) as caught:
        cfg = config(text, *overrides)
        data: Any = build_data(cfg.data, 0)
        task = build_task(cfg, data.spec)
        task.build_model(cfg, data.spec)
        task.batches(data, "train", cfg.batch_size, shuffle=True)
    assert "\n" not in str(caught.value)


def test_data_without_texts_is_refused(configured: Callable[..., Config]) -> None:
    cfg = configured("task=language_model")
    with pytest.raises(RequestError, match="needs texts, and this data has none"):
        build_task(cfg, DataSpec(baseline={}, feature_size=3))


def test_a_part_of_one_token_cannot_be_judged(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text(recall(50))
    (tmp_path / "val.txt").write_text("a")
    cfg = config(tmp_path)
    data: Any = build_data(cfg.data, 0)
    with pytest.raises(RequestError, match="'val' has 1 tokens; a language model needs 2"):
        build_task(cfg, data.spec).batches(data, "val", 1)
