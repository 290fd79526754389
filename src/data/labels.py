"""Names of classes, as a person reads them, and what is suspicious about them."""

import logging
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from src.data.split import EncodedSplit

log = logging.getLogger(__name__)

SHOWN = 10
"""Names that a line lists at most."""


def some_of(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = f", … and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def look_alikes(names: Sequence[str]) -> list[list[str]]:
    """The classes whose names are one and the same to a person: but for case, blanks, the way a letter is coded, or
    the way a number is written (``1``, ``01``, ``1.0``)."""
    groups: dict[str | float, list[str]] = defaultdict(list)
    for name in names:
        groups[_as_read(name)].append(name)
    return [group for group in groups.values() if len(group) > 1]


def _as_read(name: str) -> str | float:
    letters = (letter for letter in unicodedata.normalize("NFKC", name) if unicodedata.category(letter) != "Cf")
    text = " ".join("".join(letters).casefold().split())
    try:
        number = float(text.replace("_", "x"))  # Python reads 1_0 as 10, a person does not
        return number if number == number and abs(number) < 2**53 else text
    except ValueError:
        return text


def count_classes(labels: NDArray[Any], classes: int) -> tuple[int, ...]:
    """Examples of each class; none where a label is not known."""
    if labels.ndim == 2:
        return tuple(labels.sum(0, dtype=np.int64).tolist())
    return tuple(np.bincount(labels, minlength=classes).tolist()) if classes and labels.min(initial=0) >= 0 else ()


def majority(counts: Sequence[int]) -> dict[str, float]:
    """What always answering the most frequent class reaches, from the examples of each class."""
    there, share = sum(count > 0 for count in counts), max(counts, default=0) / max(sum(counts), 1)
    if not there:
        return {}
    found = {"accuracy": share, "balanced_accuracy": 1 / there, "macro_f1": 2 * share / (1 + share) / len(counts)}
    return found | ({"roc_auc": 0.5, "average_precision": counts[1] / sum(counts)} if len(counts) == 2 else {})


def warn_about_classes(names: Sequence[str], splits: Mapping[str, EncodedSplit]) -> None:
    """Say which classes look alike, and which have nothing to learn from or to be judged by."""
    for group in look_alikes(names)[:SHOWN]:
        log.warning(
            "the labels %s are different classes; if they mean the same, write them the same way",
            some_of([repr(name) for name in group]),
        )
    for split, purpose in (("train", "to learn from"), ("val", "to be judged by")):
        counts = count_classes(splits[split].labels, len(names))  # none of a split whose labels are not known
        missing = [name for name, count in zip(names, counts, strict=False) if count == 0]
        if missing:
            one = "the class" if len(missing) == 1 else f"{len(missing):,} classes"
            has = "has" if len(missing) == 1 else "have"
            log.warning("%s %s no example %s (%s): %s", one, has, purpose, split, some_of(missing))
