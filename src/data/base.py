"""What data is to the rest of the program: it says of itself what a task must know, and hands out batches."""

from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from torch import Tensor

from src.data.batch import Batch
from src.errors import RequestError, did_you_mean

if TYPE_CHECKING:
    from src.data.encoder import TextEncoder

Examples = TypeVar("Examples")


@dataclass(frozen=True, eq=False, kw_only=True)
class DataSpec:
    """What a task must know of the data to build its model and to judge it.

    Inputs are ids (``vocab_size``) or numbers (``feature_size``). Targets are classes (``class_names``) or numbers
    (``target_size``), one for a whole sequence or one for every step.
    """

    baseline: Mapping[str, Mapping[str, float]]
    """What the trivial predictor reaches on each split, by the names of the metrics."""
    vocab_size: int | None = None
    """Ids in all, None where the inputs are numbers."""
    feature_size: int | None = None
    """Width of the inputs, None where they are ids."""
    class_names: tuple[str, ...] = ()
    """The classes, none where the targets are numbers."""
    several_labels: bool = False
    """Whether an example may have any number of the classes: its target is then a 0 or 1 for each."""
    class_counts: tuple[int, ...] = ()
    """Training examples of each class; none where that is not known."""
    target_size: int | None = None
    """Width of the targets, None where they are classes."""
    target: Literal["sequence", "step"] = "sequence"
    """What a target belongs to."""
    pad_id: int | None = None
    unk_id: int | None = None
    """The id of whatever is not in the vocabulary; what word dropout puts in."""
    characters: tuple[int, ...] | None = None
    """Characters that each id stands for: none where words are all that is left of a text, None where there is none."""
    embedding: Tensor | None = None
    """[vocab_size, E] pretrained vectors to start from."""

    def refuse_other(self, other: "DataSpec", name: str) -> None:
        """Make sure that a model for this data can read ``other``.

        Raises:
            RequestError: naming what differs.
        """
        for field in fields(self):
            own, theirs = getattr(self, field.name), getattr(other, field.name)
            if field.name not in ("baseline", "class_counts", "embedding") and own != theirs:
                raise RequestError(
                    f"data={name} has {field.name}={_short(theirs)}, the run was trained on {field.name}={_short(own)}"
                )


def _short(value: object, most: int = 200) -> str:
    text = str(value)
    return text if len(text) <= most else f"{text[:most]}…"


class Loader(Protocol):
    """Batches of a split, in an order that can be taken up again anywhere."""

    def __len__(self) -> int:
        """Batches an epoch."""

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """Go through the batches of an epoch from batch ``start`` on: a function of its arguments and nothing else."""


class Data(Protocol):
    """Examples in splits: ``train``, ``val`` and perhaps ``test``."""

    @property
    def spec(self) -> DataSpec:
        """What the data says of itself."""

    @property
    def splits(self) -> Mapping[str, Sized]:
        """The examples of each split; their number is all that everybody may ask of them."""

    @property
    def encoder(self) -> "TextEncoder | None":
        """What makes texts ids, None where there is no text."""

    def loader(
        self,
        split: str,
        batch_size: int,
        *,
        shuffle: bool = False,
        seed: int = 0,
        bucket: bool = False,
        pin: bool = False,
    ) -> Loader:
        """Cut a split into batches.

        Args:
            shuffle: another order each epoch, or other examples where they are made anew; for training.
            seed: of the order.
            bucket: put examples of similar length together, which saves padding.
            pin: hand out page-locked batches, for a GPU.

        Raises:
            RequestError: the data has no such split.
        """


def split_of(splits: Mapping[str, Examples], name: str) -> Examples:
    """Return the examples of a split.

    Raises:
        RequestError: the data has no such split.
    """
    if name not in splits:
        raise RequestError(f"this data has no split {name!r}{did_you_mean(name, splits)}")
    return splits[name]
