"""Labelled texts before they are encoded, and what every data set must be able to do."""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from src.data.split import holdout_indices, iterative_indices, stratified_indices
from src.data.stored import StoredText


class Texts(Sequence[str]):
    """Texts held one behind the other, as UTF-8: a Python string takes 50 bytes more than its letters, and four bytes
    a letter for the sake of a single emoji.

    Args:
        content: all of them, and perhaps others.
        bounds: [N, 2] where each begins and ends.
    """

    def __init__(self, content: bytearray, bounds: NDArray[np.int64]) -> None:
        self._content, self._bounds = content, bounds

    @classmethod
    def hold(cls, texts: Iterable[str]) -> "Texts":
        """Take these."""
        content, ends = bytearray(), array("q", [0])
        for text in texts:
            content += text.encode("utf-8", "surrogatepass")
            ends.append(len(content))
        return cls(content, np.lib.stride_tricks.sliding_window_view(np.array(ends, dtype=np.int64), 2))

    def __len__(self) -> int:
        return len(self._bounds)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return self.pick(range(len(self))[number])
        start, end = self._bounds[number].tolist()
        return self._content[start:end].decode("utf-8", "surrogatepass")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Texts) and [*self] == [*other]

    def pick(self, numbers: Sequence[int] | NDArray[np.int64]) -> "Texts":
        """Some of them, in this order, without a copy."""
        return Texts(self._content, self._bounds[np.asarray(numbers, dtype=np.int64)])


@dataclass(frozen=True)
class Examples:
    """Texts and their classes, one each."""

    texts: Texts | list[StoredText]
    """Held in memory, or those of a language model where they lie."""
    labels: list[Any]
    """Numbers of classes; tuples of any number of them, where a text may have several."""

    def pick(self, indices: NDArray[np.int64]) -> "Examples":
        """Return these examples, in this order."""
        assert isinstance(self.texts, Texts)
        return Examples(self.texts.pick(indices), [self.labels[index] for index in indices.tolist()])

    def hold_out(self, share: float, seed: int, stratify: bool = False) -> tuple["Examples", "Examples"]:
        """Shuffle, and return (what to train on, the last ``share``), of each class with ``stratify``."""
        if stratify and isinstance(self.labels[0], tuple):
            train, held_out = iterative_indices(self.labels, share, seed)
        elif stratify:
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
