"""The models that tasks train: an embedding, a DeepRNN, and a head."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from src.kernels.sequence import last_valid, valid_steps
from src.models.deep_rnn import DeepRNN
from src.models.dropout import check_rate, drop_words
from src.models.naming import check_name

POOLINGS = ("last", "max", "mean", "max_mean")


def pool(output: Tensor, lengths: Tensor, pooling: str, bidirectional: bool) -> Tensor:
    """One vector a sequence from outputs [T, B, F].

    ``last`` is the last valid step, beside the first one when bidirectional, since the backward direction ends there;
    ``max`` and ``mean`` go over the valid steps; ``max_mean`` is both. Sequences of length 0 give zeros.
    """
    nothing = output.new_zeros(output.shape[1:])
    if pooling == "last":
        last = last_valid(output, lengths, nothing)
        return torch.cat((last, last_valid(output, lengths.clamp(max=1), nothing)), -1) if bidirectional else last
    # Padded outputs are zero, so the sum needs no mask; the maximum does.
    mean = output.sum(0) / lengths.clamp(min=1)[:, None]
    if pooling == "mean":
        return mean
    valid = valid_steps(lengths, output.shape[0])[..., None]
    largest = output.masked_fill(~valid, float("-inf")).amax(0) if output.shape[0] else nothing
    largest = torch.where((lengths > 0)[:, None], largest, 0)
    return largest if pooling == "max" else torch.cat((largest, mean), -1)


def pooled_size(rnn: DeepRNN, pooling: str) -> int:
    """Features of ``pool``'s result."""
    return rnn.output_size * (2 if pooling == "max_mean" or (pooling == "last" and rnn.bidirectional) else 1)


class Embedding(nn.Embedding):
    """Token vectors, with two ways of dropping words in training.

    Args:
        vocab_size: V. embedding_dim: E.
        pad_id: the id whose vector is zero and stays so; None: there is none.
        word_dropout: probability that a word of the text is missing (its vector zero).
        type_dropout: probability that a word of the vocabulary is missing from the whole batch, the others scaled up
            (Gal & Ghahramani 2016; "embedding dropout" of AWD-LSTM).
    Raises:
        ValueError: for a rate outside [0, 1).
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_dim: int,
        pad_id: int | None = None,
        word_dropout: float = 0.0,
        type_dropout: float = 0.0,
    ) -> None:
        super().__init__(vocab_size, embedding_dim, padding_idx=pad_id)
        self.word_dropout = check_rate("word_dropout", word_dropout)
        self.type_dropout = check_rate("embedding_dropout", type_dropout)

    def forward(self, ids: Tensor) -> Tensor:
        """ids [T, B] -> vectors [T, B, E]."""
        embedded = super().forward(ids)
        if not self.training:
            return embedded
        if self.type_dropout > 0:
            kept = F.dropout(self.weight.new_ones(self.num_embeddings, 1), self.type_dropout)
            embedded = embedded * F.embedding(ids, kept)
        return drop_words(embedded, self.word_dropout, training=True)


def deep_output(size: int, hidden: Sequence[int], num_outputs: int, dropout: float) -> nn.Sequential:
    """The head: dropout and a linear map, or a deep output (Pascanu et al. 2014) through hidden relu layers."""
    modules: list[nn.Module] = []
    for width in hidden:
        modules += [nn.Dropout(dropout), nn.Linear(size, width), nn.ReLU()]
        size = width
    return nn.Sequential(*modules, nn.Dropout(dropout), nn.Linear(size, num_outputs))


def initialise_as_keras(embedding: nn.Embedding, head: nn.Module) -> None:
    """Keras's defaults: embedding U(-0.05, 0.05), linear maps glorot uniform with zero bias."""
    nn.init.uniform_(embedding.weight, -0.05, 0.05)
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)


class SequenceClassifier(nn.Module):
    """Token ids -> embedding -> DeepRNN -> pooling -> logits.

    Args:
        vocab_size: V, rows of the embedding.
        num_outputs: logits; 1 for a sigmoid head.
        embedding_dim: E; must be the stack's input size.
        rnn: the stack, time-major.
        pooling: last, max, mean or max_mean; see ``pool``.
        word_dropout, embedding_dropout: see ``Embedding``.
        dropout: on the embedding's and the pooled features.
        head_hidden: widths of hidden layers in the head (deep output); none: a linear head.
        pad_id: the id of padding.
        init: ``keras`` starts embedding and head as Keras does, anything else as torch does.
    Raises:
        ValueError: for an unknown pooling, a rate outside [0, 1), or a stack of another input size.
    """

    def __init__(
        self,
        vocab_size: int,
        num_outputs: int,
        embedding_dim: int,
        rnn: DeepRNN,
        pooling: str = "last",
        word_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        dropout: float = 0.0,
        head_hidden: Sequence[int] = (),
        pad_id: int = 0,
        init: str = "torch",
    ) -> None:
        super().__init__()
        check_name("pooling", pooling, POOLINGS)
        if rnn.input_size != embedding_dim or rnn.batch_first:
            raise ValueError(f"the stack must be time-major and read {embedding_dim} features, not {rnn.input_size}")
        self.embedding = Embedding(vocab_size, embedding_dim, pad_id, word_dropout, embedding_dropout)
        self.dropout = nn.Dropout(check_rate("dropout", dropout))
        self.rnn = rnn
        self.pooling = pooling
        self.head = deep_output(pooled_size(rnn, pooling), head_hidden, num_outputs, dropout)
        if init == "keras":
            initialise_as_keras(self.embedding, self.head)
        with torch.no_grad():
            self.embedding.weight[pad_id] = 0

    def encode(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids [T, B] and lengths [B] -> the stack's outputs [T, B, F]."""
        return self.rnn(self.dropout(self.embedding(ids)), lengths=lengths)[0]

    def classify(self, output: Tensor, lengths: Tensor) -> Tensor:
        """Outputs [T, B, F] -> logits [B, num_outputs]."""
        return self.head(pool(output, lengths, self.pooling, self.rnn.bidirectional))

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids [T, B] and lengths [B] -> logits [B, num_outputs]."""
        return self.classify(self.encode(ids, lengths), lengths)
