"""Loss, metrics and reports of the classification task, against what can be worked out by hand or by scikit-learn."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from torch import Tensor, nn

from src.config import Config
from src.data.base import DataSpec
from src.data.batch import Batch
from src.data.build import build_data
from src.data.text_data import TextData
from src.errors import RequestError
from src.tasks.base import StepResult
from src.tasks.build import build_task
from src.tasks.class_metrics import ClassificationMetrics
from src.tasks.classification import Classification, Options

Configured = Callable[..., Config]


def spec_of(*names: str, share: float = 0.5, **more: Any) -> DataSpec:
    """Texts of 12 words in these classes; the most frequent one has this share of the validation part."""
    baseline = {"val": {"accuracy": share}}
    return DataSpec(baseline=baseline, vocab_size=12, class_names=names, pad_id=0, unk_id=1, **more)


TWO = spec_of("neg", "pos", share=0.75)
THREE = spec_of("a", "b", "c")


def options(**changes: object) -> Options:
    values: dict[str, object] = {"name": "classification", "embedding": 4, "word_dropout": 0.0, "pooling": "last"}
    values |= {"embedding_dropout": 0.0, "input_dropout": 0.0, "head_hidden": []}
    return Options.model_validate(
        values
        | {"head": "auto", "label_smoothing": 0.0, "class_weights": None, "monitor": "val/accuracy", "mode": "max"}
        | changes
    )


def batch(targets: list[int]) -> Batch:
    return Batch(torch.ones(3, len(targets), dtype=torch.long), torch.tensor(targets), torch.full((len(targets),), 3))


class Fixed(nn.Module):
    """Answers with logits that were given to it."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        return self.logits


def test_a_sigmoid_head_is_a_softmax_head_whose_negative_logit_is_zero() -> None:
    logits = torch.randn(5, 1, dtype=torch.float64)
    both = torch.cat((torch.zeros_like(logits), logits), -1)
    targets = torch.tensor([0, 1, 1, 0, 1])
    for smoothing in (0.0, 0.2):
        sigmoid = Classification(options(head="sigmoid", label_smoothing=smoothing), TWO)
        softmax = Classification(options(head="softmax", label_smoothing=smoothing), TWO)
        torch.testing.assert_close(sigmoid.loss(logits, targets), softmax.loss(both, targets), rtol=1e-12, atol=0)
        torch.testing.assert_close(sigmoid.probabilities(logits), softmax.probabilities(both))
        assert sigmoid.predicted(logits).tolist() == softmax.predicted(both).tolist()


def test_loss_by_hand() -> None:
    task = Classification(options(), TWO)
    result = task.step(Fixed(torch.log(torch.tensor([[3.0], [1.0]]))), batch([1, 0]))  # P(pos) = 3/4 and 1/2
    assert result.loss.item() == pytest.approx(-(np.log(0.75) + np.log(0.5)) / 2, rel=1e-6)
    assert result.loss.requires_grad and not result.outputs["loss"].requires_grad
    assert task.count(batch([1, 0])) == 2


def test_penalties_join_the_loss_in_training_only(configured: Configured) -> None:
    cfg = configured("regularise.activation=2", "regularise.temporal=1", "width=3")
    task = build_task(cfg, TWO)
    model, plain, given = task.build_model(cfg, TWO), Classification(options(), TWO), batch([0, 1])
    output = model.encode(given.inputs, given.lengths)
    expected = 2 * output.square().mean() + (output[1:] - output[:-1]).square().mean()
    with_penalty, without = task.step(model, given, None).loss, plain.step(model, given).loss
    torch.testing.assert_close(with_penalty - without, expected)
    model.eval()
    assert task.step(model, given, None).loss == plain.step(model, given).loss


@pytest.mark.parametrize("classes", [2, 3])
def test_metrics_of_uneven_batches_equal_scikit_learn_on_all_of_them(classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    metrics, seen, said, losses = ClassificationMetrics(classes), [], [], []
    for size in (7, 3, 5):
        targets = torch.randint(classes, (size,), generator=generator)
        predicted = torch.randint(classes, (size,), generator=generator)
        loss = torch.rand((), generator=generator)
        metrics.update(StepResult(loss, {"loss": loss, "predicted": predicted}), batch(targets.tolist()))
        seen += targets.tolist()
        said += predicted.tolist()
        losses += [loss.item()] * size
        taken_up = ClassificationMetrics(classes)
        taken_up.load_state_dict(metrics.state_dict())
        metrics = taken_up
    found = metrics.compute()
    assert found["accuracy"] == pytest.approx(accuracy_score(seen, said))
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(seen, said))
    assert found["macro_f1"] == pytest.approx(f1_score(seen, said, average="macro"))
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-6)


def test_metrics_count_a_class_that_nobody_names_as_zero() -> None:
    metrics = ClassificationMetrics(3)
    zero = torch.zeros(())
    metrics.update(StepResult(zero, {"loss": zero, "predicted": torch.tensor([0, 0])}), batch([0, 1]))
    expected = {"loss": 0.0, "accuracy": 0.5, "balanced_accuracy": 0.5, "macro_f1": pytest.approx(2 / 3 / 3)}
    assert metrics.compute() == expected


def test_the_baseline_is_the_share_of_the_most_frequent_class() -> None:
    assert Classification(options(), TWO).baseline(TextData(TWO, {}, None, None, {}), "val") == {"accuracy": 0.75}


def test_a_head_that_does_not_fit_the_data_is_refused() -> None:
    assert Classification(options(), TWO).sigmoid and not Classification(options(), THREE).sigmoid
    with pytest.raises(RequestError, match="sigmoid is for two classes, this data has 3"):
        Classification(options(head="sigmoid"), THREE)


def test_the_model_is_the_one_that_was_asked_for(configured: Configured) -> None:
    cfg = configured("model=gru", "width=[6,4]", "bidirectional=true", "model.merge=sum", "link=highway", "dropout=0.3")
    model = build_task(cfg, THREE).build_model(cfg, THREE)
    assert [layer.cell.hidden_size for layer in model.rnn.layers] == [6, 4]
    assert (model.rnn.link, model.rnn.merge, model.rnn.bidirectional) == ("highway", "sum", True)
    assert model.rnn.links[0].gate.bias.unique().tolist() == [-2.0]
    assert model.embedding.weight.shape == (12, 64) and model.head[0].p == 0.3
    assert model(torch.ones(5, 2, dtype=torch.long), torch.tensor([5, 2])).shape == (2, 3)
    for wrong, message in [("model.cell=gruu", "mean gru"), ("backend=fast", "backend"), ("model.init=k", "init")]:
        broken = configured(wrong)
        with pytest.raises(RequestError, match=message):
            build_task(broken, TWO).build_model(broken, TWO)


def test_pretrained_vectors_are_where_the_embedding_starts(configured: Configured) -> None:
    vectors = torch.randn(12, 5)
    spec = spec_of("neg", "pos", embedding=vectors)
    cfg = configured("task.embedding=5")
    assert build_task(cfg, spec).build_model(cfg, spec).embedding.weight.equal(vectors)
    cfg = configured("task.embedding=6")
    with pytest.raises(RequestError, match=r"task.embedding=6: the vectors in data.embedding_path have 5"):
        build_task(cfg, spec).build_model(cfg, spec)


def test_report_and_labels_follow_the_order_of_the_texts(
    reviews: Path, tmp_path: Path, configured: Configured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEP_RNN_CACHE", str(tmp_path / "cache"))
    cfg = configured("data=text_file", "data.path=x")
    data = build_data(cfg.data.model_copy(update={"path": str(reviews)}), cfg.seed)
    task = build_task(cfg, data.spec)
    torch.manual_seed(0)
    model = task.build_model(cfg, data.spec)
    files = task.report(model, data, "val", tmp_path / "run")
    labels = data.split("val").labels
    counts = pd.read_csv(files["confusion_table"], index_col="true")
    assert counts.sum(axis=1).to_dict() == {"neg": (labels == 0).sum(), "pos": (labels == 1).sum()}
    assert files["confusion_matrix"].read_bytes().startswith(b"\x89PNG")

    wrong = pd.read_csv(files["most_wrong"])
    assert len(wrong) == len(labels) - np.trace(counts.to_numpy())
    assert wrong["probability_of_true"].is_monotonic_increasing and (wrong["probability_of_true"] < 0.5).all()
    assert (wrong["true"] != wrong["predicted"]).all()
    for row in wrong.itertuples():
        assert row.text == data.text("val", row.example)
        (said,) = task.label(model, data.encoder, [row.text])
        assert said["label"] == row.predicted
        assert said["probability"] == pytest.approx(1 - row.probability_of_true, abs=2e-6)
