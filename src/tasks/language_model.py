"""The next token of a text, given all before it."""

import math
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from deep_rnn.stack import DeepRNN
from src.config import Config, NoLinkConfig
from src.data.base import Data, DataSpec, split_of
from src.data.batch import Batch
from src.data.encoder import TextEncoder
from src.data.stream import StreamLoader, count_ids, join
from src.data.text_data import TextData
from src.errors import RequestError
from src.files import write_atomic
from src.modules.language_model import LanguageModel
from src.modules.penalties import activation_penalty, temporal_penalty
from src.tasks.base import StepResult, Task
from src.tasks.options import TaskOptions
from src.tasks.sampling import chooser, generate
from src.tasks.stack import build_stack, start_from

BEGINNING, SAMPLE = 32, 500
"""Tokens of a split's beginning after which a run writes a sample at its end, and tokens of the sample."""

Share = Annotated[float, Field(ge=0, lt=1)]


class Options(TaskOptions):
    """``conf/task/language_model.yaml``."""

    name: Literal["language_model"]
    bptt: Annotated[int, Field(ge=2)]
    """Steps of a chunk, through which gradients flow; state flows on from chunk to chunk."""
    bptt_jitter: bool
    """Draw the length of each training chunk around ``bptt``, with the learning rate in proportion."""
    parts: Annotated[int, Field(ge=1)]
    """An epoch, which ends with an evaluation, reads one of so many parts of the training stream, in turn."""
    eval_columns: Annotated[int, Field(ge=1)]
    """Columns that evaluation cuts the stream into; each begins without context, 1 reads it in one go."""
    tied: bool
    """Share the matrix of the embedding with the softmax."""
    cutoffs: list[int]
    """Ids at which the clusters of an adaptive softmax begin; none: a full softmax."""
    word_dropout: Share
    """Share of the words of a training chunk that are hidden where they are read, not where they are predicted."""
    embedding_dropout: Share
    """Share of the vocabulary that is hidden from a whole training chunk."""
    input_dropout: Share
    """Share of the features of the embedding that is hidden, the same ones for a whole chunk."""


def build(cfg: Config, spec: DataSpec) -> "LanguageModelling":
    """Make the task for data that says this of itself."""
    assert isinstance(cfg.task, Options)
    if cfg.bidirectional is not False:
        raise RequestError(
            "task=language_model: a bidirectional model would see the tokens that it is to predict; bidirectional=false"
        )
    return LanguageModelling(cfg.task, spec, cfg.regularise.activation, cfg.regularise.temporal)


class LanguageModelling(Task):
    """Cross-entropy of every token of a stream of texts given all before it, by truncated back-propagation.

    Args:
        options: of ``conf/task/language_model.yaml``.
        spec: what the data says of itself.
        activation: weight of the penalty on large outputs of the stack (after dropout), in training.
        temporal: weight of the penalty on outputs (before dropout) that change fast (Merity et al. 2017, both).

    Raises:
        RequestError: the data is no text.
    """

    def __init__(self, options: Options, spec: DataSpec, activation: float = 0.0, temporal: float = 0.0) -> None:
        if spec.vocab_size is None or spec.characters is None:
            raise RequestError("task=language_model needs texts, and this data has none")
        self.options = options
        self.activation, self.temporal = activation, temporal
        self.vocab_size, self.characters = spec.vocab_size, spec.characters

    def build_model(self, cfg: Config, spec: DataSpec) -> LanguageModel:
        """Embedding, stack and softmax; pretrained vectors of the data are where the embedding starts."""
        options, dropout = self.options, cfg.dropout
        if isinstance(dropout, list) and isinstance(cfg.link, NoLinkConfig):
            # The last layer's outputs are what the softmax reads: dropped there, the penalty on change sees them whole.
            cfg, dropout = cfg.model_copy(update={"dropout": [*dropout[:-1], 0.0]}), dropout[-1]
        try:
            model = LanguageModel(
                self.vocab_size,
                options.embedding,
                build_stack(cfg, options.embedding),
                tied=options.tied,
                cutoffs=options.cutoffs,
                word_dropout=options.word_dropout,
                embedding_dropout=options.embedding_dropout,
                input_dropout=options.input_dropout,
                dropout=0.0 if isinstance(dropout, list) else dropout,
                locked=cfg.regularise.locked_dropout,
            )
        except ValueError as error:
            raise RequestError(f"task: {error}") from error
        start_from(model.embedding, spec.embedding)
        return model

    # ------------------------------------------------------------------------------------------------- batches
    def batches(self, data: Data, split: str, batch_size: int, **how: Any) -> StreamLoader:
        """The texts of a split as one stream; ``shuffle`` cuts that of the training part, ``bucket`` says nothing.

        Raises:
            RequestError: the data has no such split, or too few tokens in it.
        """
        options, ids, pin = self.options, stream_of(data, split), how.get("pin", False)
        if len(ids) < 2:
            raise RequestError(f"the split {split!r} has {len(ids)} tokens; a language model needs 2 to predict one")
        if split != "train" or not how.get("shuffle", False):
            return StreamLoader(ids, options.eval_columns, options.bptt, pin=pin)
        needed = batch_size * options.bptt * options.parts + 1
        if len(ids) < needed:
            among = f" of task.parts={options.parts} parts" if options.parts > 1 else ""
            raise RequestError(
                f"the split {split!r} has {len(ids):,} tokens, fewer than one chunk of task.bptt={options.bptt} steps"
                f" in each of batch_size={batch_size} columns{among} ({needed:,}): make one smaller, or give more text"
            )
        seed, jitter, parts = how.get("seed", 0), options.bptt_jitter, options.parts
        return StreamLoader(ids, batch_size, options.bptt, jitter=jitter, parts=parts, even=True, seed=seed, pin=pin)

    def count(self, batch: Batch) -> int:
        """Tokens to predict."""
        return int(batch.lengths.sum())

    # ---------------------------------------------------------------------------------------------------- step
    def step(self, model: nn.Module, batch: Batch, carry: Any = None) -> StepResult:
        """Loss of a chunk, read on from where the chunk before it ended."""
        lengths = None if model.training else batch.lengths  # in training all columns are full
        reading = model(batch.inputs, lengths, carry)
        nats = model.nats(reading.features, batch.targets)  # type: ignore[operator]
        loss = nats / (batch.targets >= 0).sum().clamp(min=1)
        outputs = {"nats": nats.detach()}
        if not model.training:
            return StepResult(loss, outputs, reading.state)
        if self.activation:
            loss = loss + self.activation * activation_penalty(reading.features)
        if self.temporal:
            loss = loss + self.temporal * temporal_penalty(reading.output)
        scale = len(batch.inputs) / self.options.bptt if self.options.bptt_jitter else 1.0
        return StepResult(loss, outputs, DeepRNN.detach(reading.state), scale)

    def new_metrics(self) -> "LanguageModelMetrics":
        """Start one pass over a split."""
        return LanguageModelMetrics(self.characters)

    # ------------------------------------------------------------------------------------------------ baseline
    def baseline(self, data: Data, split: str) -> dict[str, float]:
        """What the frequencies of single tokens in the training part reach (each counted once more, so that none is
        impossible); nothing where there is no training part."""
        if "train" not in data.splits:
            return {}
        counts_V = count_ids(stream_of(data, "train"), self.vocab_size) + 1.0
        targets_V = count_ids(stream_of(data, split)[1:], self.vocab_size)
        nats = -np.log(counts_V / counts_V.sum()) @ targets_V
        characters = np.asarray(self.characters) @ targets_V if self.characters else 0
        return measures(float(nats), int(targets_V.sum()), int(characters))

    # ------------------------------------------------------------------------------------------ what people see
    @torch.inference_mode()
    def label(self, model: nn.Module, encoder: TextEncoder, texts: list[str]) -> list[dict[str, Any]]:
        """The perplexity of each text by itself, from its second token on; None for a text of one token."""
        encoded = encoder.encode_whole(texts)
        return [self._judged(model, encoded[text]) for text in range(len(texts))]

    def _judged(self, model: Any, ids: Any) -> dict[str, Any]:
        metrics, carry = self.new_metrics(), None
        model.eval()
        if len(ids) < 2:
            return {"tokens": len(ids), "perplexity": None}
        for batch in StreamLoader(ids, 1, self.options.bptt).epoch():
            batch = batch.to(next(model.parameters()).device)
            result = self.step(model, batch, carry)
            metrics.update(result, batch)
            carry = result.carry
        return {"tokens": len(ids)} | {name: round(value, 6) for name, value in metrics.compute().items()}

    def report(self, model: nn.Module, data: Data, split: str, folder: Path) -> dict[str, Path]:
        """Write ``sample.txt``: how the model goes on after the beginning of a split."""
        assert isinstance(data, TextData) and isinstance(model, LanguageModel)
        prompt_T = torch.from_numpy(stream_of(data, split)[:BEGINNING].astype(np.int64)).to(
            next(model.parameters()).device
        )
        continued = islice(generate(model, prompt_T, chooser(0.8, None, None, seed=0)), SAMPLE)
        path = folder / "sample.txt"
        write_atomic(path, "".join(map(data.encoder.tokenizer.writer(), [*prompt_T.tolist(), *continued])) + "\n")
        return {"sample": path}


class LanguageModelMetrics:
    """Loss, perplexity and bits per character, from sums on the device.

    Args:
        characters: that each id stands for; none where they cannot be counted, and there are no bits per character.
    """

    def __init__(self, characters: tuple[int, ...]) -> None:
        self.characters = characters
        self.table_V: Tensor | None = None
        self.sums: Tensor | None = None  # [3] nats, tokens, characters

    def update(self, result: StepResult, batch: Batch) -> None:
        """Add a chunk."""
        targets, device = batch.targets, batch.targets.device
        if self.sums is None:
            exact = torch.float32 if device.type == "mps" else torch.float64  # Apple's GPUs have no more
            self.sums = torch.zeros(3, dtype=exact, device=device)
        if self.table_V is None:
            self.table_V = torch.tensor([*self.characters, 0] if self.characters else [0], device=device)
        known = targets >= 0
        # -1 takes the last entry, which is 0
        characters = self.table_V[targets].sum() if self.characters else known.new_zeros((), dtype=torch.int64)
        self.sums += torch.stack([x.to(self.sums.dtype) for x in (result.outputs["nats"], known.sum(), characters)])

    def state_dict(self) -> dict[str, Any]:
        """The sums so far, for a checkpoint in mid-epoch."""
        return {"sums": self.sums}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` returned."""
        self.sums = state["sums"]

    def compute(self) -> dict[str, float]:
        """Wait for the device and return ``loss`` (nats a token), ``perplexity`` and ``bits_per_character``."""
        assert self.sums is not None, "no batch was evaluated"
        nats, tokens, characters = self.sums.tolist()
        return measures(nats, int(tokens), int(characters))


def measures(nats: float, tokens: int, characters: int) -> dict[str, float]:
    """The usual figures of a text of so many tokens and characters (0: not known) that takes so many nats."""
    loss = nats / tokens
    found = {"loss": loss, "perplexity": math.exp(loss) if loss < 700 else math.inf}
    return found | ({"bits_per_character": nats / math.log(2) / characters} if characters else {})


def stream_of(data: Data, split: str) -> NDArray[Any]:
    """[N] the ids of a split's texts, whole and one behind the other.

    Raises:
        RequestError: the data has no such split.
    """
    assert isinstance(data, TextData)  # as the constructor has made sure
    return join(split_of(data.whole, split))
