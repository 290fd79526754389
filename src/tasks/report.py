"""Tables and pictures of what a classifier gets wrong; none grows with the number of classes without bound."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from src.data.text_data import TextData
from src.files import write_atomic

MOST_WRONG = 50  # rows of the table
MOST_NUMBERED = 20
"""Classes of a confusion matrix whose picture has numbers in its cells."""
MOST_PICTURED = 100
"""Classes of a confusion matrix that is drawn and written whole; of more, the pairs that are confused most."""
MOST_PAIRS = 500
LARGEST = 20.0
"""Inches of a picture."""


class Judged(NamedTuple):
    """What a classifier made of N examples. All the probabilities, of which there are C an example, are not kept."""

    true: NDArray[np.int64]
    """[N] the class of each."""
    predicted: NDArray[np.int64]
    """[N] the likeliest class."""
    certainty: NDArray[np.float32]
    """[N] the probability of the likeliest class."""
    belief: NDArray[np.float32]
    """[N] the probability of the true class."""

    def at(self, places: NDArray[np.int64]) -> "Judged":
        """These examples, in this order."""
        return Judged(self.true[places], self.predicted[places], self.certainty[places], self.belief[places])


def write_report(judged: Judged, classes: Sequence[str], folder: Path) -> dict[str, Path]:
    """Write ``classes.csv``, and what is confused with what: ``confusion_matrix.csv`` and ``.png``, or, of more than
    ``MOST_PICTURED`` classes, ``confused_pairs.csv``."""
    files = {"classes": write_classes(judged, classes, folder)}
    if len(classes) > MOST_PICTURED:
        return files | {"confused_pairs": write_pairs(judged, classes, folder)}
    return files | write_confusion(judged, classes, folder)


def write_classes(judged: Judged, classes: Sequence[str], folder: Path) -> Path:
    """Write ``classes.csv``: how many examples each class has, how often it is answered, precision, recall and F1."""
    import pandas as pd
    from sklearn.metrics import precision_recall_fscore_support

    precision_C, recall_C, f1_C, support_C = precision_recall_fscore_support(
        judged.true, judged.predicted, labels=np.arange(len(classes)), zero_division=0
    )
    table = pd.DataFrame(
        {
            "class": list(classes),
            "examples": support_C,
            "predicted": np.bincount(judged.predicted, minlength=len(classes)),
            "precision": precision_C.round(6),
            "recall": recall_C.round(6),
            "f1": f1_C.round(6),
        }
    )
    write_atomic(folder / "classes.csv", table.to_csv(index=False))
    return folder / "classes.csv"


def write_pairs(judged: Judged, classes: Sequence[str], folder: Path) -> Path:
    """Write ``confused_pairs.csv``: the pairs of true and predicted class that occur most, of those that differ."""
    import pandas as pd

    wrong = judged.true != judged.predicted
    pairs = pd.Series(judged.true[wrong] * len(classes) + judged.predicted[wrong])
    found = pairs.value_counts().sort_index().sort_values(ascending=False, kind="stable")[:MOST_PAIRS]
    true, predicted = np.divmod(found.index.to_numpy(dtype=np.int64), len(classes))
    names = np.asarray(classes, dtype=object)
    table = pd.DataFrame({"true": names[true], "predicted": names[predicted], "examples": found.to_numpy()})
    write_atomic(folder / "confused_pairs.csv", table.to_csv(index=False))
    return folder / "confused_pairs.csv"


def write_confusion(judged: Judged, classes: Sequence[str], folder: Path) -> dict[str, Path]:
    """Write ``confusion_matrix.csv`` (a row a true class, a column a predicted one) and ``confusion_matrix.png``."""
    import pandas as pd
    from matplotlib.figure import Figure

    counts_CC = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts_CC, (judged.true, judged.predicted), 1)
    table = pd.DataFrame(counts_CC, index=pd.Index(classes, name="true"), columns=list(classes))
    files = {"confusion_table": folder / "confusion_matrix.csv", "confusion_matrix": folder / "confusion_matrix.png"}
    write_atomic(files["confusion_table"], table.to_csv())

    size = min(max(4.0, 0.5 * len(classes)), LARGEST)
    figure = Figure(figsize=(size, size), layout="constrained")  # no pyplot: no display, no figure left open
    axes = figure.subplots()
    axes.imshow(counts_CC, cmap="Blues")
    names = [name if len(name) <= 24 else f"{name[:23]}…" for name in classes]
    axes.set(xlabel="predicted", ylabel="true")
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > MOST_NUMBERED else 0)
    axes.set_yticks(range(len(names)), names)
    for row, column in np.ndindex(counts_CC.shape) if len(classes) <= MOST_NUMBERED else ():
        colour = "white" if counts_CC[row, column] > counts_CC.max() / 2 else "black"
        axes.text(column, row, f"{counts_CC[row, column]:,}", ha="center", va="center", color=colour)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_atomic(files["confusion_matrix"], picture.getvalue())
    return files


def write_most_wrong(data: TextData, split: str, judged: Judged, classes: Sequence[str], folder: Path) -> Path:
    """Write ``most_wrong.csv``: the wrongly labelled texts whose true class the model believes in least."""
    import pandas as pd

    worst = np.argsort(judged.belief, kind="stable")[:MOST_WRONG]
    worst = worst[judged.predicted[worst] != judged.true[worst]]
    chosen = judged.at(worst)
    table = pd.DataFrame(
        {
            "example": worst,
            "true": [classes[number] for number in chosen.true],
            "predicted": [classes[number] for number in chosen.predicted],
            "probability_of_true": chosen.belief.round(6),
            "text": [data.text(split, int(example)) for example in worst],
        }
    )
    path = folder / "most_wrong.csv"
    write_atomic(path, table.to_csv(index=False))
    return path
