"""Tables and pictures of what a classifier gets wrong."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from src.data.text_data import TextData
from src.files import write_atomic

MOST_WRONG = 50  # rows of the table


def write_confusion(
    true_N: NDArray[np.int64], predicted_N: NDArray[np.int64], classes: Sequence[str], folder: Path
) -> dict[str, Path]:
    """Write ``confusion_matrix.csv`` (a row a true class, a column a predicted one) and ``confusion_matrix.png``."""
    import pandas as pd
    from matplotlib.figure import Figure

    counts_CC = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts_CC, (true_N, predicted_N), 1)
    table = pd.DataFrame(counts_CC, index=pd.Index(classes, name="true"), columns=list(classes))
    files = {"confusion_table": folder / "confusion_matrix.csv", "confusion_matrix": folder / "confusion_matrix.png"}
    write_atomic(files["confusion_table"], table.to_csv())

    size = max(4.0, 0.5 * len(classes))
    figure = Figure(figsize=(size, size), layout="constrained")  # no pyplot: no display, no figure left open
    axes = figure.subplots()
    axes.imshow(counts_CC, cmap="Blues")
    places = range(len(classes))
    axes.set(xticks=places, yticks=places, xticklabels=classes, yticklabels=classes, xlabel="predicted", ylabel="true")
    for row, column in np.ndindex(counts_CC.shape) if len(classes) <= 20 else ():
        colour = "white" if counts_CC[row, column] > counts_CC.max() / 2 else "black"
        axes.text(column, row, f"{counts_CC[row, column]:,}", ha="center", va="center", color=colour)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=120)
    write_atomic(files["confusion_matrix"], picture.getvalue())
    return files


def write_most_wrong(
    data: TextData, split: str, probabilities_NC: NDArray[np.float32], classes: Sequence[str], folder: Path
) -> Path:
    """Write ``most_wrong.csv``: the wrongly labelled texts whose true class the model believes in least."""
    import pandas as pd

    labels_N = data.split(split).labels
    predicted_N = probabilities_NC.argmax(1)
    belief_N = probabilities_NC[np.arange(len(labels_N)), labels_N]
    worst = np.argsort(belief_N, kind="stable")[:MOST_WRONG]
    worst = worst[predicted_N[worst] != labels_N[worst]]
    table = pd.DataFrame(
        {
            "example": worst,
            "true": [classes[labels_N[example]] for example in worst],
            "predicted": [classes[predicted_N[example]] for example in worst],
            "probability_of_true": belief_N[worst].round(6),
            "text": [data.text(split, int(example)) for example in worst],
        }
    )
    path = folder / "most_wrong.csv"
    write_atomic(path, table.to_csv(index=False))
    return path
