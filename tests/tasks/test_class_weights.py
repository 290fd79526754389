"""Classes of very different size: weights in the loss, and metrics that show what became of the rare ones."""

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score
from sklearn.utils.class_weight import compute_class_weight
from test_classification import Fixed, batch, options, spec_of

from src.config import Config, compose_config
from src.data.labels import count_classes, majority
from src.errors import RequestError
from src.tasks.class_metrics import ClassificationMetrics
from src.tasks.classification import Classification, weights_of

Typed = Callable[..., tuple[int, str, str]]


def test_balanced_weights_are_those_of_scikit_learn_and_one_in_the_mean() -> None:
    labels = np.repeat([0, 1, 2], [70, 20, 10])
    spec = spec_of("a", "b", "c", class_counts=count_classes(labels, 3))
    weights = weights_of("balanced", spec)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels)
    np.testing.assert_allclose(weights, expected, rtol=1e-6)
    assert weights[labels].mean().item() == pytest.approx(1)


@pytest.mark.parametrize("head", ["sigmoid", "softmax"])
def test_an_example_counts_as_often_as_its_weight_says_in_training_only(head: str) -> None:
    task = Classification(options(head=head, class_weights=[1.0, 3.0]), spec_of("neg", "pos"))
    plain = Classification(options(head=head), spec_of("neg", "pos"))
    model = Fixed(torch.randn(3, 1 if head == "sigmoid" else 2))
    repeated = Fixed(model.logits.detach()[[0, 1, 1, 1, 2]])
    weighted, often = task.step(model, batch([0, 1, 0])), plain.step(repeated, batch([0, 1, 1, 1, 0]))
    torch.testing.assert_close(weighted.loss * 3, often.loss * 5)
    model.eval()
    assert task.step(model, batch([0, 1, 0])).loss == plain.step(model, batch([0, 1, 0])).loss


def test_parts_of_a_batch_add_up_to_the_whole_with_weights_too() -> None:
    task, logits, targets = (
        Classification(options(class_weights=[1.0, 9.0]), spec_of("a", "b")),
        torch.randn(6, 1),
        [0, 1, 0, 0, 0, 1],
    )
    whole = task.step(Fixed(logits), batch(targets)).loss
    parts = [task.step(Fixed(logits[part]), batch(targets[part])).loss for part in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(whole, sum(parts) / 2)


def test_weights_that_do_not_fit_the_data_are_refused() -> None:
    with pytest.raises(RequestError, match="names 3 classes, this data has 2: neg, pos"):
        Classification(options(class_weights=[1.0, 2.0, 3.0]), spec_of("neg", "pos"))
    with pytest.raises(RequestError, match="all are 0"):
        Classification(options(class_weights=[0.0, 0.0]), spec_of("neg", "pos"))
    unsaid = Classification(options(class_weights="balanced"), spec_of("neg", "pos"))
    with pytest.raises(RequestError, match="does not say how many examples each class has"):
        unsaid.batches(None, "train", 2, shuffle=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["equal", "[1,-1]", "2"])
def test_weights_that_mean_nothing_are_refused(configured: Callable[..., Config], wrong: str) -> None:
    with pytest.raises(RequestError, match=r"task.class_weights"):
        configured(f"task.class_weights={wrong}")


@pytest.mark.parametrize("head", ["sigmoid", "softmax"])
def test_areas_under_the_curves_equal_scikit_learn_on_all_batches(head: str) -> None:
    torch.manual_seed(0)
    task = Classification(options(head=head), spec_of("neg", "pos"))
    metrics, seen, said = task.new_metrics(), [], []
    for size in (30, 7, 1):
        targets = torch.randint(2, (size,)).tolist()
        model = Fixed(torch.randn(size, 1 if head == "sigmoid" else 2)).eval()
        metrics.update(task.step(model, batch(targets)), batch(targets))
        seen += targets
        said += task.probabilities(model.logits.detach())[:, 1].tolist()
        taken_up = ClassificationMetrics(2)
        taken_up.load_state_dict(metrics.state_dict())
        metrics = taken_up
    found = metrics.compute()
    assert found["roc_auc"] == pytest.approx(roc_auc_score(seen, said))
    assert found["average_precision"] == pytest.approx(average_precision_score(seen, said))


def test_areas_are_no_number_where_one_class_is_missing_and_not_there_for_three() -> None:
    task = Classification(options(), spec_of("neg", "pos"))
    metrics = task.new_metrics()
    metrics.update(task.step(Fixed(torch.randn(2, 1)).eval(), batch([1, 1])), batch([1, 1]))
    assert math.isnan(metrics.compute()["roc_auc"])
    task = Classification(options(), spec_of("a", "b", "c"))
    metrics = task.new_metrics()
    metrics.update(task.step(Fixed(torch.randn(2, 3)).eval(), batch([1, 2])), batch([1, 2]))
    assert "roc_auc" not in metrics.compute()


@pytest.mark.parametrize("counts", [(8, 2), (5, 3, 2)])
def test_what_the_most_frequent_class_reaches_is_what_the_metrics_say_of_it(counts: tuple[int, ...]) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    found = majority(counts)
    assert found["balanced_accuracy"] == 1 / len(counts)
    assert found["macro_f1"] == pytest.approx(f1_score(labels, np.zeros_like(labels), average="macro"))
    if len(counts) == 2:
        assert found["average_precision"] == average_precision_score(labels, np.zeros(len(labels)))


def test_one_in_forty_is_found_with_balanced_weights_and_not_without(typed: Typed, tmp_path: Path) -> None:
    draw, path = random.Random(0), tmp_path / "rare.csv"
    words = ["film", "plot", "cast", "music", "scene", "actor"]
    rows = []
    for number in range(820):
        rare = number % 41 == 0
        text = [*draw.choices(words, k=5), draw.choice(["good", "fine"] if rare or draw.random() < 0.1 else words)]
        rows.append(f"{' '.join(text)},{'rare' if rare else 'common'}\n")
    path.write_text("text,label\n" + "".join(rows))
    found: dict[str, Any] = {}
    for weights in ("null", "balanced"):
        code, _, err = typed(
            *("train", "data=text_file", f"data.path={path}", "model=rnn", "depth=1", "width=8", "task.embedding=8"),
            *("epochs=6", "lr=1e-2", "batch_size=32", "logger=none", f"task.class_weights={weights}", "threads=1"),
            *("task.monitor=val/balanced_accuracy", f"hydra.run.dir=run-{weights}"),
        )
        assert code == 0, err
        found[weights] = json.loads((tmp_path / f"run-{weights}" / "summary.json").read_text())["best"]
    assert found["null"]["val/balanced_accuracy"] == found["null"]["val/baseline"] == 0.5
    assert found["balanced"]["val/balanced_accuracy"] > 0.85
    assert "rare" in (tmp_path / "run-balanced" / "classes.csv").read_text()


def test_a_run_is_ranked_by_balanced_accuracy_the_right_way() -> None:
    from helpers import composed

    assert compose_config(composed("task.monitor=val/balanced_accuracy")).trainer.mode == "max"
    with pytest.raises(RequestError, match="better when it is larger"):
        compose_config(composed("task.monitor=val/roc_auc", "task.mode=min"))
