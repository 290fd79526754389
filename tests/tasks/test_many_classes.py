"""The report of a classifier stays small however many classes there are."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from src.tasks.class_metrics import ClassificationMetrics
from src.tasks.report import MOST_PAIRS, MOST_PICTURED, Judged, write_report

REPORT = """
import resource, sys
from pathlib import Path
import torch
from torch import nn
from src.data.base import DataSpec
from src.data.split import EncodedSplit
from src.data.text_data import TextData
from src.tasks.classification import Classification
from src.tasks.report import MOST_PICTURED
import matplotlib.figure, pandas, sklearn.metrics
from tests.tasks.test_classification import options

CLASSES, EXAMPLES = 5000, 10_000
names = tuple(f"class {number}" for number in range(CLASSES))
split = EncodedSplit.from_sequences([[2]] * EXAMPLES, [number % CLASSES for number in range(EXAMPLES)])
spec = DataSpec(baseline={}, vocab_size=5, class_names=names, pad_id=0, unk_id=1)
data = TextData(spec, {"val": split}, None, None, {})
object.__setattr__(data, "text", lambda split, example: "a text")


class Model(nn.Linear):
    def forward(self, inputs, lengths):
        return super().forward(torch.randn(len(lengths), 4))


task, metrics = Classification(options(), spec), None
model = Model(4, CLASSES)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
metrics = task.new_metrics()
for batch in data.loader("val", 256).epoch():
    metrics.update(task.step(model, batch), batch)
metrics.compute()
task.report(model, data, "val", Path(sys.argv[1]))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def judged(classes: int, examples: int = 2000) -> Judged:
    rng = np.random.default_rng(0)
    true, predicted = rng.integers(0, classes, (2, examples))
    certainty, belief = rng.random((2, examples)).astype(np.float32)
    return Judged(true, predicted, certainty, belief)


def test_the_report_of_5000_classes_takes_less_than_200_megabytes(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", REPORT, str(tmp_path)], capture_output=True, text=True, check=True)
    assert float(run.stdout) < 200
    assert {path.name for path in tmp_path.iterdir()} == {"classes.csv", "confused_pairs.csv", "most_wrong.csv"}


def test_the_sums_of_an_epoch_grow_with_the_classes_and_not_with_their_square() -> None:
    import torch

    from src.data.batch import Batch
    from src.tasks.base import StepResult

    metrics, zero, zeros = ClassificationMetrics(5000), torch.zeros(()), torch.zeros(2, dtype=torch.long)
    metrics.update(StepResult(zero, {"loss": zero, "predicted": zeros}), Batch(zeros[None], zeros, zeros))
    sizes = [value.numel() for value in metrics.state_dict().values() if isinstance(value, torch.Tensor)]
    assert sum(sizes) < 10 * 5000


@pytest.mark.parametrize("classes", [2, MOST_PICTURED])
def test_few_classes_have_their_whole_matrix_in_a_picture_of_bounded_size(tmp_path: Path, classes: int) -> None:
    found = judged(classes)
    files = write_report(found, [f"class {number}" for number in range(classes)], tmp_path)
    table = pd.read_csv(files["confusion_table"], index_col="true")
    assert table.shape == (classes, classes) and table.to_numpy().sum() == len(found.true)
    assert imread(files["confusion_matrix"]).size <= 4 * 2400**2


def test_many_classes_have_the_pairs_that_are_confused_most_first(tmp_path: Path) -> None:
    classes = MOST_PICTURED + 1
    found = judged(classes, 50_000)
    found = found._replace(predicted=np.where(found.true == 7, 9, found.predicted))
    names = [f"class {number}" for number in range(classes)]
    table = pd.read_csv(write_report(found, names, tmp_path)["confused_pairs"])
    assert len(table) == MOST_PAIRS and table["examples"].is_monotonic_decreasing
    assert table.iloc[0].tolist() == ["class 7", "class 9", (found.true == 7).sum()]
    assert (table["true"] != table["predicted"]).all()


def test_each_class_has_its_scores(tmp_path: Path) -> None:
    true, predicted = np.array([0, 0, 0, 1, 2]), np.array([0, 0, 1, 1, 1])
    zeros = np.zeros(5, np.float32)
    files = write_report(Judged(true, predicted, zeros, zeros), ["a", "b", "c"], tmp_path)
    rows = pd.read_csv(files["classes"]).set_index("class").T.to_dict()
    assert rows["a"] == {"examples": 3, "predicted": 2, "precision": 1, "recall": 0.666667, "f1": 0.8}
    assert rows["b"] == {"examples": 1, "predicted": 3, "precision": 0.333333, "recall": 1, "f1": 0.5}
    assert rows["c"] == {"examples": 1, "predicted": 0, "precision": 0, "recall": 0, "f1": 0}
