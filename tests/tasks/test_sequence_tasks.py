"""Labelling and regression: losses and metrics against what can be worked out by hand, and small problems that a model
without memory cannot learn."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from src.config import Config
from src.data.base import DataSpec
from src.data.batch import Batch
from src.errors import RequestError
from src.tasks.build import build_task
from src.tasks.means import Means
from src.tasks.regression import Regression
from src.tasks.sequence_labelling import SequenceLabelling

Configured = Callable[..., Config]
Typed = Callable[..., tuple[int, str, str]]


class Fixed(nn.Module):
    """Answers with what it was given."""

    def __init__(self, answers: Tensor) -> None:
        super().__init__()
        self.answers = nn.Parameter(answers)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        return self.answers


def labelled() -> tuple[Fixed, Batch]:
    """Three steps of two sequences, the second one step long; right, with probability 3/4, but for one step."""
    targets_TB = torch.tensor([[0, 1], [1, 0], [0, 0]])
    chosen_TB = torch.tensor([[0, 1], [1, 1], [1, 0]])
    logits = torch.nn.functional.one_hot(chosen_TB, 2) * torch.tensor(3.0).log()
    return Fixed(logits), Batch(torch.zeros(3, 2, dtype=torch.long), targets_TB, torch.tensor([3, 1]))


def test_sequence_labelling_by_hand_with_padding_that_counts_for_nothing() -> None:
    task, (model, batch) = SequenceLabelling(), labelled()
    result = task.step(model, batch)
    expected = -(3 * torch.tensor(0.75).log() + torch.tensor(0.25).log()) / 4  # four valid steps, one of them wrong
    torch.testing.assert_close(result.loss, expected)
    assert task.count(batch) == 4
    metrics = task.new_metrics()
    metrics.update(result, batch)
    assert metrics.compute() == pytest.approx({"loss": expected.item(), "accuracy": 3 / 4, "exact_match": 1 / 2})
    result.loss.backward()
    assert model.answers.grad is not None and model.answers.grad[1:, 1].count_nonzero() == 0


def test_regression_by_hand() -> None:
    task, model = Regression(), Fixed(torch.tensor([[1.0], [2.0], [4.0]]))
    batch = Batch(torch.zeros(2, 3, 1), torch.tensor([[1.0], [4.0], [3.0]]), torch.tensor([2, 2, 2]))
    result = task.step(model, batch)
    assert result.loss.item() == pytest.approx(5 / 3) and task.count(batch) == 3
    metrics = task.new_metrics()
    metrics.update(result, batch)
    assert metrics.compute() == pytest.approx({"loss": 5 / 3, "mae": 1.0})


def test_means_weigh_batches_by_their_elements_and_go_on_from_a_checkpoint() -> None:
    def pair(total: float, count: float) -> Any:
        return type("Result", (), {"outputs": {"loss": torch.tensor([total, count])}})

    metrics, resumed = Means(), Means()
    metrics.update(pair(6.0, 3.0), None)  # type: ignore[arg-type]
    resumed.load_state_dict(metrics.state_dict())
    for each in (metrics, resumed):
        each.update(pair(2.0, 1.0), None)  # type: ignore[arg-type]
        assert each.compute() == {"loss": 2.0}


@pytest.mark.parametrize(
    ("task", "data", "message"),
    [
        ("regression", "copy", "task=regression: data=copy has no numbers to answer with for a sequence"),
        ("sequence_labelling", "adding", "task=sequence_labelling: data=adding has no class for every step"),
        ("classification", "copy", "task=classification needs a class for every sequence"),
        ("classification", "adding", "task=classification needs a class for every sequence"),
    ],
)
def test_a_task_that_the_data_has_no_targets_for_is_refused(
    task: str, data: str, message: str, configured: Configured
) -> None:
    from src.data.build import build_data

    cfg = configured(f"data={data}", f"task={task}", "data.val_size=2")
    with pytest.raises(RequestError, match=message):
        build_task(cfg, build_data(cfg.data, 0).spec)


def test_words_are_not_dropped_where_there_are_none(configured: Configured) -> None:
    spec = DataSpec(baseline={}, feature_size=1, class_names=("even", "odd"))
    with pytest.raises(RequestError, match="hide words, and this data has none"):
        build_task(configured("data=parity", "task.word_dropout=0.1"), spec)


SMALL = ["depth=1", "batch_size=32", "logger=none", "device=cpu", "threads=1", "trainer.summary=false", "model=gru"]
LEARNABLE = {
    "adding": ["data.length=10", "width=16", "lr=2e-2", "epochs=1"],
    "copy": ["data.length=5", "data.symbols=2", "data.alphabet=4", "width=32", "lr=2e-2", "epochs=1"],
    "parity": ["data.length=4", "width=16", "lr=2e-2", "epochs=1"],
    "temporal_order": ["data.length=10", "width=16", "lr=2e-2", "epochs=1"],
    "digits": ["data.order=rows", "width=32", "lr=1e-2", "epochs=3"],
}
FAR_FROM_CHANCE = {"adding": 0.02, "copy": 0.05, "parity": 0.95, "temporal_order": 0.95, "digits": 0.8}


@pytest.mark.parametrize("name", LEARNABLE)
def test_a_small_version_is_learned_far_beyond_what_chance_reaches(name: str, typed: Typed, tmp_path: Path) -> None:
    code, _, err = typed("train", f"data={name}", *SMALL, *LEARNABLE[name], "hydra.run.dir=run")
    assert code == 0, err
    best = json.loads((tmp_path / "run" / "summary.json").read_text())["best"]
    metric = "loss" if name in ("adding", "copy") else "accuracy"
    reached, chance, bound = best[f"val/{metric}"], best["val/baseline"], FAR_FROM_CHANCE[name]
    assert reached < bound < chance / 3 if metric == "loss" else reached > bound > chance + 0.4

    code, out, err = typed("evaluate", "run=run")
    judged = json.loads(out.splitlines()[-1])
    assert (code, judged["val/baseline"]) == (0, chance) and judged[f"val/{metric}"] == pytest.approx(reached, rel=1e-5)
    code, _, err = typed("predict", "run=run", "text=What a film!")
    assert code == 2 and f"trained on data={name}, which has no texts to label" in err
    assert len((tmp_path / "run" / "train.log").read_text().split("baseline")) > 1


def test_a_trained_model_is_judged_at_another_length_and_on_no_other_problem(typed: Typed) -> None:
    assert typed("train", "data=copy", "data.length=5", *SMALL, "max_steps=2", "hydra.run.dir=run")[0] == 0
    code, out, _ = typed("evaluate", "run=run", "data.length=30")
    assert code == 0 and json.loads(out.splitlines()[-1])["val/baseline"] == pytest.approx(10 * 2.0794415 / 50)
    code, _, err = typed("evaluate", "run=run", "data=adding")
    assert code == 2 and "data=adding has vocab_size=None, the run was trained on vocab_size=10" in err


def test_a_run_on_drawn_examples_goes_on_as_if_it_had_not_been_stopped(typed: Typed, tmp_path: Path) -> None:
    problem = ["data=adding", "data.length=6", "data.train_size=100", "data.val_size=20", *SMALL, "trainer.log_every=1"]
    assert typed("train", *problem, "epochs=3", "hydra.run.dir=whole")[0] == 0
    assert typed("train", *problem, "epochs=3", "max_steps=6", "hydra.run.dir=broken")[0] == 0
    assert typed("train", "resume=broken", "max_steps=12")[0] == 0

    def losses(run: str) -> list[float]:
        lines = map(json.loads, (tmp_path / run / "metrics.jsonl").read_text().splitlines())
        return [line["train/loss"] for line in lines if "train/loss" in line]

    assert len(losses("whole")) == 12 and losses("whole") == losses("broken")
