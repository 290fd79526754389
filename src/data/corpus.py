"""Labelled texts before they are encoded, and what every data set must be able to do."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from src.data.split import holdout_indices, stratified_indices


@dataclass(frozen=True)
class Examples:
    """Texts and their classes, one each."""

    texts: list[str]
    labels: list[Any]
    """Numbers of classes; tuples of any number of them, where a text may have several."""

    def pick(self, indices: Iterable[int]) -> "Examples":
        """Return these examples, in this order."""
        chosen = [int(index) for index in indices]
        return Examples([self.texts[index] for index in chosen], [self.labels[index] for index in chosen])

    def hold_out(self, share: float, seed: int, stratify: bool = False) -> tuple["Examples", "Examples"]:
        """Shuffle, and return (what to train on, the last ``share``), of each class with ``stratify``."""
        if stratify:
            train, held_out = stratified_indices(self.labels, share, seed)
        else:
            train, held_out = holdout_indices(len(self.texts), share, seed)
        return self.pick(train), self.pick(held_out)


@dataclass(frozen=True)
class Corpus:
    """A data set as it was written: ``train`` to learn from, ``val`` held out of it (or a file of its own), and
    ``test`` only where its makers set one apart."""

    splits: dict[str, Examples]
    class_names: tuple[str, ...]


class Source(Protocol):
    """A data set that can say cheaply whether it has changed, and can be read."""

    def fingerprint(self) -> str:
        """Return what changes when the content does."""
        ...

    def read(self, fit: bool) -> Corpus:
        """Read all of it, in the same order each time.

        Args:
            fit: whether a model will be trained on it. If not, a set whose makers split nothing off is all ``val``.

        Raises:
            RequestError: it is not there, damaged, or not what it should be.
        """
        ...
