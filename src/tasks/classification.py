"""One label for a whole sequence."""

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from src.config import Config
from src.data.base import Data, DataSpec, Loader, split_of
from src.data.batch import Batch
from src.data.encoder import TextEncoder
from src.data.labels import some_of
from src.data.loader import BatchLoader
from src.data.split import UNKNOWN_LABEL
from src.data.text_data import TextData
from src.errors import RequestError
from src.modules.penalties import activation_penalty, temporal_penalty
from src.modules.sequence import SequenceModel
from src.tasks.base import StepResult, Task
from src.tasks.class_metrics import ClassificationMetrics
from src.tasks.options import Poolings, TaskOptions
from src.tasks.report import Judged, write_most_wrong, write_report
from src.tasks.stack import build_stack, input_size, start_from

BATCH = 256  # of passes that learn nothing: sorted by length, so that little is padding


class Options(TaskOptions):
    """``conf/task/classification.yaml``."""

    name: Literal["classification"]
    word_dropout: Annotated[float, Field(ge=0, lt=1)]
    """Share of the words of a training batch that are hidden from the model."""
    embedding_dropout: Annotated[float, Field(ge=0, lt=1)]
    """Share of the vocabulary that is hidden from a whole training batch."""
    input_dropout: Annotated[float, Field(ge=0, lt=1)]
    """Share of the features of the inputs that is hidden, the same ones for a whole sequence."""
    pooling: Poolings
    """last, max, mean or attention over time, or several joined by +."""
    head: Literal["auto", "sigmoid", "softmax"]
    """``auto``: sigmoid for two classes, softmax for more."""
    head_hidden: list[Annotated[int, Field(ge=1)]]
    """Widths of hidden layers before the head."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    class_weights: Literal["balanced"] | list[Annotated[float, Field(ge=0, allow_inf_nan=False)]] | None
    """What an example of each class counts in the training loss; ``balanced``: all classes the same in all."""


def build(cfg: Config, spec: DataSpec) -> "Classification":
    """Make the task for data that says this of itself."""
    assert isinstance(cfg.task, Options)
    return Classification(cfg.task, spec, cfg.regularise.activation, cfg.regularise.temporal)


class Classification(Task):
    """Cross-entropy over C classes, from C logits (softmax head) or, for two classes, from one (sigmoid head).

    Args:
        options: of ``conf/task/classification.yaml``.
        spec: what the data says of itself.
        activation: weight of the penalty on large outputs of the stack, in training.
        temporal: weight of the penalty on outputs that change fast (Merity et al. 2017, both).

    Raises:
        RequestError: the data has no classes, the sigmoid head more than two, or there are not as many weights as
            classes.
    """

    def __init__(self, options: Options, spec: DataSpec, activation: float = 0.0, temporal: float = 0.0) -> None:
        count = len(spec.class_names)
        if count == 0 or spec.target != "sequence":
            raise RequestError("task=classification needs a class for every sequence, and this data has none")
        if spec.several_labels:
            raise RequestError("task=classification gives each text one label; this data has several: task=multilabel")
        if options.head == "sigmoid" and count != 2:
            raise RequestError(f"task.head=sigmoid is for two classes, this data has {count}: take auto")
        if spec.vocab_size is None and options.word_dropout + options.embedding_dropout > 0:
            raise RequestError("task.word_dropout and task.embedding_dropout hide words, and this data has none")
        self.options = options
        self.activation, self.temporal = activation, temporal
        self.classes = spec.class_names
        self.weights_C = weights_of(options.class_weights, spec)
        self.sigmoid = options.head == "sigmoid" or (options.head == "auto" and count == 2)

    def build_model(self, cfg: Config, spec: DataSpec) -> SequenceModel:
        """Embedding, stack, pooling and head; pretrained vectors of the data are where the embedding starts."""
        options = self.options
        size = input_size(cfg, spec)
        model = SequenceModel(
            spec.vocab_size,
            1 if self.sigmoid else len(self.classes),
            size,
            build_stack(cfg, size),
            pooling=options.pooling,
            word_dropout=options.word_dropout,
            embedding_dropout=options.embedding_dropout,
            input_dropout=options.input_dropout,
            dropout=0.0 if isinstance(cfg.dropout, list) else cfg.dropout,  # a list says it for every layer's output
            head_hidden=options.head_hidden,
            pad_id=spec.pad_id,
            init=cfg.model.init,
        )
        start_from(model.embedding, spec.embedding)
        return model

    def batches(self, data: Data, split: str, batch_size: int, **how: Any) -> Loader:
        """Cut a split into batches.

        Raises:
            RequestError: the data has no such split, or no labels; or it is for training, classes are to be balanced,
                and the data does not say how many examples they have.
        """
        if how.get("shuffle") and self.options.class_weights == "balanced" and self.weights_C is None:
            raise RequestError(
                "task.class_weights=balanced: this data does not say how many examples each class has; give a weight"
                " for each"
            )
        if isinstance(data, TextData) and (split_of(data.splits, split).labels == UNKNOWN_LABEL).any():
            raise RequestError(
                f"the texts of the split {split!r} have no labels: a classifier cannot be judged by them"
            )
        return data.loader(split, batch_size, **how)

    def count(self, batch: Batch) -> int:
        """Sequences of the batch."""
        return batch.targets.shape[0]

    def step(self, model: nn.Module, batch: Batch, carry: Any = None) -> StepResult:
        """Loss and predicted classes of a batch."""
        penalty: Tensor | float = 0.0
        if model.training and (self.activation or self.temporal):
            logits_BC, penalty = self._penalised(model, batch)
        else:
            logits_BC = model(batch.inputs, batch.lengths)
        loss = self.loss(logits_BC, batch.targets, weighted=model.training) + penalty
        outputs = {"loss": loss.detach(), "predicted": self.predicted(logits_BC.detach())}
        if not model.training and len(self.classes) == 2:
            outputs["score"] = self.score(logits_BC.detach())
        return StepResult(loss, outputs)

    def _penalised(self, model: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits, and what the stack's outputs cost by their size and their change."""
        output_TBF = model.encode(batch.inputs, batch.lengths)
        size, change = activation_penalty(output_TBF, batch.lengths), temporal_penalty(output_TBF, batch.lengths)
        return model.answer(output_TBF, batch.lengths), self.activation * size + self.temporal * change

    def loss(self, logits_BC: Tensor, targets_B: Tensor, weighted: bool = False) -> Tensor:
        """Mean cross-entropy in nats, with label smoothing (Szegedy et al. 2016) as the options say.

        ``weighted``: every example's times the weight of its class; the mean is over examples all the same, so that the
        parts of a batch add up to the whole.
        """
        smoothing, weights_C = self.options.label_smoothing, self.weights_C if weighted else None
        how = "mean" if weights_C is None else "none"
        if self.sigmoid:
            positive_B = logits_BC[:, 0]
            exact = torch.promote_types(positive_B.dtype, torch.float32)  # autocast hands on logits of 16 bits
            shares_B = targets_B.to(exact) * (1 - smoothing) + smoothing / 2
            loss = F.binary_cross_entropy_with_logits(positive_B, shares_B, reduction=how)
        else:
            loss = F.cross_entropy(logits_BC, targets_B, label_smoothing=smoothing, reduction=how)
        if weights_C is None:
            return loss
        self.weights_C = weights_C = weights_C.to(loss.device)
        return (loss * weights_C[targets_B]).mean()

    def score(self, logits_BC: Tensor) -> Tensor:
        """[B] log-odds of the second of two classes."""
        return (logits_BC[:, 0] if self.sigmoid else logits_BC[:, 1] - logits_BC[:, 0]).float()

    def predicted(self, logits_BC: Tensor) -> Tensor:
        """[B] the likeliest class of each sequence."""
        return (logits_BC[:, 0] > 0).long() if self.sigmoid else logits_BC.argmax(-1)

    def probabilities(self, logits_BC: Tensor) -> Tensor:
        """[B, C] the probability of each class."""
        if not self.sigmoid:
            return logits_BC.float().softmax(-1)
        positive_B = logits_BC[:, 0].float().sigmoid()
        return torch.stack((1 - positive_B, positive_B), -1)

    def new_metrics(self) -> ClassificationMetrics:
        """Start one pass over a split."""
        return ClassificationMetrics(len(self.classes))

    @torch.inference_mode()
    def judge(self, model: nn.Module, loader: Loader, count: int) -> Judged:
        """What the model makes of the ``count`` examples of a loader, in its order; a true class that is not known is
        believed 0."""
        device = next(model.parameters()).device
        model.eval()
        # Room for all of it first: kept batch by batch it lies in the holes that the large arrays of a batch leave, and
        # the next ones need new room, to 700 MB for 20,000 examples of 5,000 classes.
        ids, shares = (np.empty((2, count), kind) for kind in (np.int64, np.float32))
        found = Judged(ids[0], ids[1], shares[0], shares[1])
        start = 0
        for batch in loader.epoch():
            part = slice(start, start := start + len(batch.targets))
            batch = batch.to(device)
            read_BC = self.probabilities(model(batch.inputs, batch.lengths))
            certainty_B, predicted_B = read_BC.max(1)
            belief_B = read_BC.gather(1, batch.targets.clamp(min=0)[:, None])[:, 0] * (batch.targets >= 0)
            ids[:, part] = torch.stack((batch.targets, predicted_B)).cpu().numpy()
            shares[:, part] = torch.stack((certainty_B, belief_B)).cpu().numpy()
        return found

    def judge_texts(self, model: nn.Module, loader: BatchLoader) -> Judged:
        """What the model makes of every text, in the split's own order."""
        return self.judge(model, loader, len(loader.split)).at(np.argsort(loader.indices()))

    def label(self, model: nn.Module, encoder: TextEncoder, texts: list[str]) -> list[dict[str, Any]]:
        """The likeliest class of each text, and its probability."""
        judged = self.judge_texts(model, BatchLoader(encoder.encode(texts), BATCH, bucket=True))
        pairs = zip(judged.predicted.tolist(), judged.certainty.tolist(), strict=True)
        return [{"label": self.classes[index], "probability": round(value, 6)} for index, value in pairs]

    def report(self, model: nn.Module, data: Data, split: str, folder: Path) -> dict[str, Path]:
        """Write the scores of each class, what is confused with what, and the texts that the model is most wrong
        about."""
        if not isinstance(data, TextData):
            judged = self.judge(model, data.loader(split, BATCH), len(data.splits[split]))
            return write_report(judged, self.classes, folder)
        judged = self.judge_texts(model, data.loader(split, BATCH, bucket=True))
        files = write_report(judged, self.classes, folder)
        return files | {"most_wrong": write_most_wrong(data, split, judged, self.classes, folder)}


def weights_of(chosen: Literal["balanced"] | list[float] | None, spec: DataSpec) -> Tensor | None:
    """[C] what an example of each class counts; None where all count 1, or where it is not known what balances them.

    ``balanced`` is N / (C n_c), which is 1 in the mean over the training examples (King & Zeng 2001).

    Raises:
        RequestError: there are not as many weights as classes, or all are 0.
    """
    if isinstance(chosen, list):
        if len(chosen) != len(spec.class_names):
            names = some_of(spec.class_names)
            raise RequestError(
                f"task.class_weights names {len(chosen)} classes, this data has {len(spec.class_names)}: {names}"
            )
        if not any(chosen):
            raise RequestError("task.class_weights: all are 0, so that there is nothing to learn")
        return torch.tensor(chosen, dtype=torch.float32)
    if chosen is None or not spec.class_counts:
        return None
    counts_C = torch.tensor(spec.class_counts, dtype=torch.float64)
    return (counts_C.sum() / (len(counts_C) * counts_C.clamp(min=1))).float()
