"""A set of texts, ready to train on, and what it says of itself."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from src.data.corpus import Corpus
from src.data.encoder import TextEncoder
from src.data.loader import BatchLoader
from src.data.split import EncodedSplit
from src.data.tokenizer import PAD_ID, UNK_ID
from src.errors import RequestError, did_you_mean


@dataclass(frozen=True, eq=False)
class DataSpec:
    """What a task must know of the data to build its model and to judge it."""

    vocab_size: int | None
    """Ids in all, None where the inputs are numbers."""
    num_classes: int | None
    class_names: tuple[str, ...]
    pad_id: int
    unk_id: int
    """The id of whatever is not in the vocabulary; what word dropout puts in."""
    feature_size: int | None
    """Width of the inputs, None where they are ids."""
    majority: dict[str, float]
    """The trivial baseline of each split: the share of its most frequent class."""
    embedding: Tensor | None = None
    """[vocab_size, E] pretrained vectors to start from."""


def describe_texts(encoder: TextEncoder, majority: dict[str, float], embedding: Tensor | None = None) -> DataSpec:
    """What labelled texts say of themselves once they are encoded; a finished run has no splits to take a share of."""
    return DataSpec(
        vocab_size=encoder.vocab_size,
        num_classes=len(encoder.class_names),
        class_names=encoder.class_names,
        pad_id=PAD_ID,
        unk_id=UNK_ID,
        feature_size=None,
        majority=majority,
        embedding=embedding,
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
    crop: int | None = None
    """Steps of the window that stands for a longer text in training."""
    default_task = "classification"

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
            pad_id=self.spec.pad_id,
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
        if name not in self.splits:
            raise RequestError(f"this data has no split {name!r}{did_you_mean(name, self.splits)}")
        return self.splits[name]

    def text(self, split: str, example: int) -> str:
        """Return a text as it was written; the first call reads the data set."""
        return self._corpus.splits[split].texts[example]

    @cached_property
    def _corpus(self) -> Corpus:
        return self.read()
