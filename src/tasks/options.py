"""What conf/task/ may hold: one class a task. Values stand in YAML, types and ranges here."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

POOLINGS = ("last", "max", "mean", "attention")  # as src.models.sequence has them, without its torch


def _known_poolings(value: str) -> str:
    if not set(value.split("+")) <= set(POOLINGS):
        raise ValueError(f"should be one of {', '.join(POOLINGS)}, or several joined by +")
    return value


class ClassificationConfig(BaseModel):
    """One label for a whole sequence: the options of ``conf/task/classification.yaml``."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: Literal["classification"]
    embedding: Annotated[int, Field(ge=1)]
    """Width of the word vectors."""
    word_dropout: Annotated[float, Field(ge=0, lt=1)]
    """Share of the words of a training batch that are hidden from the model."""
    embedding_dropout: Annotated[float, Field(ge=0, lt=1)]
    """Share of the vocabulary that is hidden from a whole training batch."""
    input_dropout: Annotated[float, Field(ge=0, lt=1)]
    """Share of the features of the word vectors that is hidden, the same ones for a whole sequence."""
    pooling: Annotated[str, AfterValidator(_known_poolings)]
    """last, max, mean or attention over time, or several joined by +."""
    head: Literal["auto", "sigmoid", "softmax"]
    """``auto``: sigmoid for two classes, softmax for more."""
    head_hidden: list[Annotated[int, Field(ge=1)]]
    """Widths of hidden layers before the head."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    monitor: str
    """The metric that picks the best epoch; ``trainer.monitor`` follows it."""
    mode: Literal["max", "min"]
