"""A set of texts, ready to train on, and what it says of itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from src.data.base import DataSpec, split_of
from src.data.corpus import Corpus
from src.data.encoder import TextEncoder
from src.data.labels import majority
from src.data.loader import BatchLoader
from src.data.split import EncodedSplit
from src.data.tokenizer import PAD_ID, UNK_ID


def describe_texts(
    encoder: TextEncoder,
    counts: Mapping[str, Sequence[int]],
    several_labels: bool = False,
    embedding: Tensor | None = None,
) -> DataSpec:
    """What texts say of themselves once they are encoded.

    Args:
        counts: examples of each class, by split; a finished run has no splits and gives none.
        several_labels: whether a text may have several.
    """
    return DataSpec(
        baseline={} if several_labels else {split: majority(own) for split, own in counts.items()},
        vocab_size=encoder.vocab_size,
        class_names=encoder.class_names,
        several_labels=several_labels,
        class_counts=tuple(counts.get("train", ())),
        pad_id=PAD_ID,
        unk_id=UNK_ID,
        embedding=embedding,
        characters=tuple(encoder.tokenizer.characters or ()),
    )


@dataclass(frozen=True, eq=False)
class TextData:
    """Encoded splits: ``train``, ``val`` (a holdout of the training part, or a file of its own) and perhaps ``test``.

    Args:
        read: reads the texts again; called only if one is asked for.
    """

    spec: DataSpec
    splits: dict[str, EncodedSplit]
    encoder: TextEncoder
    read: Callable[[], Corpus]
    whole: Mapping[str, EncodedSplit]
    """The splits before their texts were cut to length, for a task that reads them as one stream."""
    crop: int | None = None
    """Steps of the window that stands for a longer text in training."""
    chosen: NDArray[np.int64] | None = None
    """The training examples whose labels are used, by their number in ``whole``; None: all."""

    def loader(
        self,
        split: str,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        bucket: bool = False,
        pin: bool = False,
    ) -> BatchLoader:
        """Cut a split into batches (see ``BatchLoader``); only shuffled ones, which are for training, are cropped."""
        return BatchLoader(
            self.split(split),
            batch_size,
            pad_id=PAD_ID,
            shuffle=shuffle,
            seed=seed,
            bucket=bucket,
            pin=pin,
            crop=self.crop if shuffle else None,
        )

    def split(self, name: str) -> EncodedSplit:
        """Return the encoded examples of a split.

        Raises:
            RequestError: the data has no such split.
        """
        return split_of(self.splits, name)

    def text(self, split: str, example: int) -> str:
        """Return a text as it was written; the first call reads the data set."""
        if split == "train" and self.chosen is not None:
            example = int(self.chosen[example])
        return str(self._corpus.splits[split].texts[example])

    @cached_property
    def _corpus(self) -> Corpus:
        return self.read()
