"""The models that tasks train: an embedding, a DeepRNN, and a head."""

import torch
from torch import Tensor, nn

from src.kernels.sequence import last_valid, valid_steps
from src.models.deep_rnn import DeepRNN
from src.models.dropout import check_rate, drop_words
from src.models.naming import unknown

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
    largest = output.masked_fill(~valid, float("-inf")).amax(0) if len(output) else nothing
    largest = torch.where((lengths > 0)[:, None], largest, 0)
    return largest if pooling == "max" else torch.cat((largest, mean), -1)


def pooled_size(rnn: DeepRNN, pooling: str) -> int:
    """Features of ``pool``'s result."""
    return rnn.output_size * (2 if pooling == "max_mean" or (pooling == "last" and rnn.bidirectional) else 1)


class SequenceClassifier(nn.Module):
    """Token ids -> embedding -> DeepRNN -> pooling -> logits.

    Args:
        vocab_size: V, rows of the embedding.
        num_outputs: logits; 1 for a sigmoid head.
        embedding_dim: E; must be the stack's input size.
        rnn: the stack.
        pooling: last, max, mean or max_mean; see ``pool``.
        word_dropout: probability that a word is missing (its vector zero) in training.
        dropout: on the embedding's and the pooled features.
        pad_id: the id whose vector is zero and stays so.
        init: ``keras`` starts embedding and head as Keras does (uniform ±0.05, glorot), else as torch does.
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
        dropout: float = 0.0,
        pad_id: int = 0,
        init: str = "torch",
    ) -> None:
        super().__init__()
        if pooling not in POOLINGS:
            raise unknown("pooling", pooling, POOLINGS)
        if rnn.input_size != embedding_dim or rnn.batch_first:
            raise ValueError(f"the stack must be time-major and read {embedding_dim} features, not {rnn.input_size}")
        self.embedding = nn.Embedding(vocab_size, embedding_dim, padding_idx=pad_id)
        self.rnn = rnn
        self.pooling = pooling
        self.word_dropout = check_rate("word_dropout", word_dropout)
        self.dropout = nn.Dropout(check_rate("dropout", dropout))
        self.head = nn.Linear(pooled_size(rnn, pooling), num_outputs)
        if init == "keras":
            nn.init.uniform_(self.embedding.weight, -0.05, 0.05)
            nn.init.xavier_uniform_(self.head.weight)
            nn.init.zeros_(self.head.bias)
        with torch.no_grad():
            self.embedding.weight[pad_id] = 0

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """ids [T, B] and lengths [B] -> logits [B, num_outputs]."""
        embedded = self.dropout(drop_words(self.embedding(ids), self.word_dropout, self.training))
        output, _ = self.rnn(embedded, lengths=lengths)
        return self.head(self.dropout(pool(output, lengths, self.pooling, self.rnn.bidirectional)))
