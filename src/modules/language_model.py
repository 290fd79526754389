"""A recurrent language model: the probability of the next token, given all before it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from deep_rnn.dropout import check_rate, drop_outputs, mask
from deep_rnn.kernels.linear_cross_entropy import linear_cross_entropy
from deep_rnn.stack import DeepRNN
from deep_rnn.state import StackState
from src.modules.sequence import Embedding, SequenceEncoder

INIT_RANGE = 0.1
"""Embedding and decoder start in U(-0.1, 0.1), as in Zaremba et al. (2014) and Merity et al. (2018)."""


class Reading(NamedTuple):
    """What a pass over a chunk of text leaves."""

    output: Tensor  # [T, B, F] of the stack
    features: Tensor  # [T, B, F], the outputs after dropout: what the decoder reads
    state: StackState  # of the stack after the last step


class LanguageModel(SequenceEncoder):
    """Token ids -> embedding -> DeepRNN -> log p(next token).

    The decoder is a linear map and a softmax; with ``tied`` its matrix is the embedding's (Press & Wolf 2017; Inan et
    al. 2017), behind a projection where the stack is not as wide as the embedding. With ``cutoffs`` it is the adaptive
    softmax of Grave et al. (2017), for ids sorted by frequency: rare tokens cost less, in time and in parameters.

    Args:
        vocab_size: V.
        embedding_dim: E; must be the stack's input size.
        rnn: the stack, time-major, in one direction.
        tied: share the embedding's matrix.
        cutoffs: ids at which the clusters of the adaptive softmax begin; none: a full softmax.
        word_dropout, embedding_dropout, input_dropout: see ``SequenceEncoder``.
        dropout: on the stack's outputs.
        locked: hold that dropout's mask for a whole chunk.
    Raises:
        ValueError: for a bidirectional stack, cutoffs that do not rise from 1 to V - 1 or are too many for the stack's
            width, cutoffs with tied weights, a rate outside [0, 1), or a stack of another input size.
    """

    embedding: Embedding

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int,
        rnn: DeepRNN,
        *,
        tied: bool = True,
        cutoffs: Sequence[int] = (),
        word_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
        locked: bool = False,
    ) -> None:
        if rnn.bidirectional:
            raise ValueError("a bidirectional language model would see the tokens that it is to predict")
        if cutoffs and tied:
            raise ValueError("the adaptive softmax has matrices of its own and cannot be tied")
        if list(cutoffs) != sorted({c for c in cutoffs if 0 < c < vocab_size}):
            raise ValueError(f"cutoffs must rise within the vocabulary, from 1 to {vocab_size - 1}, not {[*cutoffs]}")
        if rnn.output_size < 4 ** len(cutoffs):  # each cluster has a quarter of the features of the one before it
            raise ValueError(f"{len(cutoffs)} cutoffs leave the last cluster none of the {rnn.output_size} features")
        super().__init__(vocab_size, embedding_dim, rnn, word_dropout, embedding_dropout, input_dropout)
        self.dropout, self.locked, self.cutoffs = check_rate("dropout", dropout), locked, tuple(cutoffs)
        nn.init.uniform_(self.embedding.weight, -INIT_RANGE, INIT_RANGE)
        size = rnn.output_size
        self.projection = nn.Linear(size, embedding_dim) if tied and size != embedding_dim else nn.Identity()
        self.decoder: Any
        if cutoffs:
            self.decoder = nn.AdaptiveLogSoftmaxWithLoss(size, vocab_size, [*cutoffs])
            return
        self.decoder = nn.Linear(embedding_dim if tied else size, vocab_size)
        nn.init.zeros_(self.decoder.bias)
        nn.init.uniform_(self.decoder.weight, -INIT_RANGE, INIT_RANGE)
        if tied:
            self.decoder.weight = self.embedding.weight

    def forward(self, ids: Tensor, lengths: Tensor | None = None, state: Any = None) -> Reading:
        """ids [T, B], valid steps [B] (None: all) and the state before them -> what the pass leaves."""
        output, state = self.read(ids, lengths, state)
        locked = mask(output, output.shape[1:], self.dropout) if self.training and self.locked else None
        return Reading(output, drop_outputs(output, locked, self.dropout, self.training), state)

    def nats(self, features: Tensor, targets: Tensor) -> Tensor:
        """-log p of targets [T, B] summed over the batch, in nats, given features [T, B, F]; -1 counts for nothing."""
        targets = targets.flatten()
        hidden = self.projection(features.flatten(0, 1))
        if not self.cutoffs:
            return linear_cross_entropy(hidden, self.decoder.weight, self.decoder.bias, targets)
        with torch.autocast(hidden.device.type, enabled=False):  # torch's adaptive softmax knows one dtype only
            logs = self.decoder(hidden.to(self.embedding.weight.dtype), targets.clamp(min=0)).output
        return -logs.where(targets >= 0, 0).sum()

    def log_probabilities(self, features: Tensor) -> Tensor:
        """[B, V] log p of every token to come next, given features [B, F]."""
        hidden = self.projection(features)
        with torch.autocast(hidden.device.type, enabled=False):
            hidden = hidden.to(self.embedding.weight.dtype)
            return self.decoder.log_prob(hidden) if self.cutoffs else self.decoder(hidden).log_softmax(-1)

    def step(self, ids: Tensor, state: Any = None) -> tuple[Tensor, StackState]:
        """One token of each of B texts, ids [B] -> [B, V] log p of the one after it, and the state: its cost is
        that of one step, however long the text is."""
        output, state = self.rnn.step(self.embedding(ids), state)
        return self.log_probabilities(output), state


@torch.inference_mode()
def read_prompt(model: LanguageModel, ids: Tensor, chunk: int = 1024) -> tuple[Tensor, StackState]:
    """Read ids [T], at least one, ``chunk`` at a time -> [1, V] log p of the token after them, and the state."""
    state: Any = None
    for part in ids[:, None].split(chunk):
        reading = model(part, state=state)
        state = reading.state
    return model.log_probabilities(reading.features[-1]), state
