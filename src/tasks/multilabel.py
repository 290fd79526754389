"""Any number of labels for a whole sequence."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from src.config import Config
from src.data.base import Data, DataSpec
from src.data.batch import Batch
from src.data.encoder import TextEncoder
from src.data.loader import BatchLoader
from src.data.text_data import TextData
from src.errors import RequestError
from src.files import write_atomic
from src.modules.sequence import SequenceModel
from src.tasks.base import StepResult, Task
from src.tasks.options import Poolings, TaskOptions
from src.tasks.stack import build_stack, input_size, start_from

BATCH = 256  # of passes that learn nothing


class Options(TaskOptions):
    """``conf/task/multilabel.yaml``."""

    name: Literal["multilabel"]
    pooling: Poolings
    """last, max, mean or attention over time, or several joined by +."""


def build(cfg: Config, spec: DataSpec) -> "Multilabel":
    """Make the task for data that says this of itself.

    Raises:
        RequestError: the data has one class for each sequence, or none.
    """
    assert isinstance(cfg.task, Options)
    if not spec.several_labels:
        raise RequestError(
            f"task=multilabel: data={cfg.data.name} does not have several labels a text; data=text_file has, with a"
            " data.label_separator"
        )
    return Multilabel(cfg.task, spec)


class Multilabel(Task):
    """Binary cross-entropy of each of C labels, the mean over all; a label is given where its probability is above a
    half."""

    def __init__(self, options: Options, spec: DataSpec) -> None:
        self.options, self.classes = options, spec.class_names

    def build_model(self, cfg: Config, spec: DataSpec) -> SequenceModel:
        """Embedding, stack, pooling, and a logit for each label."""
        size = input_size(cfg, spec)
        model = SequenceModel(
            spec.vocab_size,
            len(self.classes),
            size,
            build_stack(cfg, size),
            pooling=self.options.pooling,
            dropout=0.0 if isinstance(cfg.dropout, list) else cfg.dropout,
            pad_id=spec.pad_id,
            init=cfg.model.init,
        )
        start_from(model.embedding, spec.embedding)
        return model

    def count(self, batch: Batch) -> int:
        """Sequences of the batch."""
        return len(batch.lengths)

    def step(self, model: nn.Module, batch: Batch, carry: Any = None) -> StepResult:
        """Loss of a batch, and how many labels were right, there, and given."""
        logits_BC: Tensor = model(batch.inputs, batch.lengths).float()
        loss = F.binary_cross_entropy_with_logits(logits_BC, batch.targets)
        given_BC, there_BC = logits_BC.detach() > 0, batch.targets > 0
        counts_3C = torch.stack([x.sum(0) for x in (given_BC & there_BC, there_BC, given_BC)])
        whole = (given_BC == there_BC).all(1).sum()
        return StepResult(loss, {"loss": loss.detach(), "counts": counts_3C, "whole": whole})

    def new_metrics(self) -> "MultilabelMetrics":
        """Start one pass over a split."""
        return MultilabelMetrics()

    def baseline(self, data: Data, split: str) -> dict[str, float]:
        """What giving every text the same labels reaches at most."""
        assert isinstance(data, TextData)
        labels_NC = data.split(split).labels
        often_C = np.sort(labels_NC.sum(0, dtype=np.int64))[::-1]
        given_C = np.arange(1, len(often_C) + 1)
        _, alike = np.unique(labels_NC, axis=0, return_counts=True)
        return {
            "micro_f1": float((2 * often_C.cumsum() / (len(labels_NC) * given_C + often_C.sum())).max()),
            "exact_match": float(alike.max() / len(labels_NC)),
        }

    @torch.inference_mode()
    def probabilities(self, model: nn.Module, loader: BatchLoader) -> NDArray[np.float32]:
        """[N, C] of every text, in the split's own order."""
        device = next(model.parameters()).device
        model.eval()
        read_NC = np.empty((len(loader.split), len(self.classes)), np.float32)
        for examples, batch in zip(loader.batches(), loader.epoch(), strict=True):
            batch = batch.to(device)
            read_NC[examples] = model(batch.inputs, batch.lengths).float().sigmoid().cpu().numpy()
        return read_NC

    def label(self, model: nn.Module, encoder: TextEncoder, texts: list[str]) -> list[dict[str, Any]]:
        """The labels of each text with their probabilities, the likeliest first."""
        read_NC = self.probabilities(model, BatchLoader(encoder.encode(texts), BATCH, bucket=True))
        answers = []
        for row in read_NC:
            given = [int(number) for number in np.argsort(-row, kind="stable") if row[number] > 0.5]
            answers.append({"labels": {self.classes[number]: round(float(row[number]), 6) for number in given}})
        return answers

    def report(self, model: nn.Module, data: Data, split: str, folder: Path) -> dict[str, Path]:
        """Write ``classes.csv``: how often each label is there and given, precision, recall and F1."""
        import pandas as pd
        from sklearn.metrics import precision_recall_fscore_support

        assert isinstance(data, TextData)
        given_NC = self.probabilities(model, data.loader(split, BATCH, bucket=True)) > 0.5
        there_NC = data.split(split).labels
        precision_C, recall_C, f1_C, support_C = precision_recall_fscore_support(
            there_NC, given_NC.astype(np.uint8), average=None, zero_division=0
        )
        scores = {"precision": precision_C, "recall": recall_C, "f1": f1_C}
        table = pd.DataFrame(
            {"class": list(self.classes), "examples": support_C, "predicted": given_NC.sum(0)}
            | {name: values.round(6) for name, values in scores.items()}
        )
        write_atomic(folder / "classes.csv", table.to_csv(index=False))
        return {"classes": folder / "classes.csv"}


class MultilabelMetrics:
    """Loss, micro- and macro-F1, and the share of texts whose labels are all right, from sums on the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def update(self, result: StepResult, batch: Batch) -> None:
        """Add a batch."""
        outputs, count = result.outputs, len(batch.lengths)
        found = {"counts": outputs["counts"], "whole": outputs["whole"], "loss": outputs["loss"] * count}
        found["examples"] = outputs["whole"].new_tensor(count)
        self.sums = {name: self.sums[name] + value if self.sums else value for name, value in found.items()}

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, for a checkpoint in mid-epoch."""
        return dict(self.sums)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` returned."""
        self.sums = dict(state)

    def compute(self) -> dict[str, float]:
        """Wait for the device and return ``loss``, ``micro_f1``, ``macro_f1`` and ``exact_match``."""
        assert self.sums, "no batch was evaluated"
        right_C, there_C, given_C = self.sums["counts"].cpu().double()
        examples = float(self.sums["examples"])
        return {
            "loss": float(self.sums["loss"]) / examples,
            "micro_f1": float(2 * right_C.sum() / (there_C + given_C).sum().clamp(min=1)),
            "macro_f1": float((2 * right_C / (there_C + given_C).clamp(min=1)).mean()),
            "exact_match": float(self.sums["whole"]) / examples,
        }
