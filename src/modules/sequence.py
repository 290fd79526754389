"""The models that tasks train: an embedding, a DeepRNN, and a head."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deep_rnn.dropout import check_rate, drop_outputs, drop_words, mask
from deep_rnn.inputs import can_look
from deep_rnn.kernels.sequence import last_valid, valid_steps
from deep_rnn.kernels.tracing import in_graph, transformed
from deep_rnn.naming import check_name
from deep_rnn.stack import DeepRNN
from deep_rnn.state import StackState

POOLINGS = ("last", "max", "mean", "attention")


class Pooling(nn.Module):
    """One vector a sequence from outputs [T, B, F]; sequences of length 0 give zeros.

    ``last`` is the last valid step, beside the first one when bidirectional, since the backward direction ends there;
    ``max`` and ``mean`` go over the valid steps; ``attention`` is their mean under learned weights, a softmax over time
    of ``w · h_t`` (Lin et al. 2017, with one hop and no hidden layer).

    Args:
        names: one of ``POOLINGS``, or several joined by ``+``, whose vectors are concatenated.
        size: F.
        bidirectional: whether the outputs come from both directions.
    Raises:
        ValueError: for an unknown name.
    """

    def __init__(self, names: str, size: int, bidirectional: bool) -> None:
        super().__init__()
        self.names, self.bidirectional = names.split("+"), bidirectional
        for name in self.names:
            check_name("pooling", name, POOLINGS)
        self.attention = nn.Linear(size, 1, bias=False) if "attention" in self.names else None
        self.output_size = sum(size * (2 if name == "last" and bidirectional else 1) for name in self.names)

    def forward(self, output: Tensor, lengths: Tensor) -> Tensor:
        """[T, B, F] and lengths [B] -> [B, output_size]."""
        if output.shape[0] == 0:
            return output.new_zeros(output.shape[1], self.output_size)
        return torch.cat([getattr(self, f"pool_{name}")(output, lengths) for name in self.names], -1)

    def pool_last(self, output: Tensor, lengths: Tensor) -> Tensor:
        """The steps at which the directions end."""
        nothing = output.new_zeros(output.shape[1:])
        whole = can_look(lengths) and int(lengths.min()) == output.shape[0]
        last = output[-1] if whole else last_valid(output, lengths, nothing)
        return torch.cat((last, last_valid(output, lengths.clamp(max=1), nothing)), -1) if self.bidirectional else last

    def pool_mean(self, output: Tensor, lengths: Tensor) -> Tensor:
        """Mean over the valid steps; padded outputs are zero and need no mask."""
        return output.sum(0) / lengths.clamp(min=1)[:, None]

    def pool_max(self, output: Tensor, lengths: Tensor) -> Tensor:
        """Largest valid value of every feature."""
        padded = ~valid_steps(lengths, output.shape[0])[..., None]
        return torch.where((lengths > 0)[:, None], output.masked_fill(padded, float("-inf")).amax(0), 0)

    def pool_attention(self, output: Tensor, lengths: Tensor) -> Tensor:
        """Mean under learned weights; where nothing is valid the weights are even, and the outputs zero."""
        assert self.attention is not None
        padded = ~valid_steps(lengths, output.shape[0])[..., None]
        scores = self.attention(output)
        weights = scores.masked_fill(padded, torch.finfo(scores.dtype).min).softmax(0)
        return (weights * output).sum(0)


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
        embedded = self.look_up(ids)
        if not self.training:
            return embedded
        if self.type_dropout > 0:
            kept = F.dropout(self.weight.new_ones(self.num_embeddings, 1), self.type_dropout)
            embedded = embedded * F.embedding(ids, kept)
        return drop_words(embedded, self.word_dropout, training=True)

    def look_up(self, ids: Tensor) -> Tensor:
        """Rows of the weight: on the CPU, for ids without padding, by an operator whose gradient is made 3x as fast."""
        traced = in_graph() or transformed() or not ids.is_cpu
        if traced or (self.padding_idx is not None and bool((ids == self.padding_idx).any())):
            return super().forward(ids)
        return self.weight.index_select(0, ids.flatten()).view(*ids.shape, self.embedding_dim)


def show_all_words(model: nn.Module) -> None:
    """Turn off the dropping of words in every embedding of a model."""
    for module in model.modules():
        if isinstance(module, Embedding):
            module.word_dropout = module.type_dropout = 0.0


def deep_output(size: int, hidden: Sequence[int], num_outputs: int, dropout: float) -> nn.Sequential:
    """The head: dropout and a linear map, or a deep output (Pascanu et al. 2014) through hidden relu layers."""
    modules: list[nn.Module] = []
    for width in hidden:
        modules += [nn.Dropout(dropout), nn.Linear(size, width), nn.ReLU()]
        size = width
    return nn.Sequential(*modules, nn.Dropout(dropout), nn.Linear(size, num_outputs))


def initialise_as_keras(embedding: nn.Embedding | None, head: nn.Module) -> None:
    """Keras's defaults: embedding U(-0.05, 0.05), linear maps glorot uniform with zero bias."""
    if embedding is not None:
        nn.init.uniform_(embedding.weight, -0.05, 0.05)
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)


class SequenceEncoder(nn.Module):
    """Ids -> embedding, or numbers as they are -> DeepRNN: what sequence models share, by the same names of weights.

    Args:
        vocab_size: V, rows of the embedding; None for inputs that are numbers, which need none.
        embedding_dim: E, or the width of the numbers; must be the stack's input size.
        rnn: the stack, time-major.
        word_dropout, embedding_dropout: see ``Embedding``.
        input_dropout: on the features of the vectors, one mask a sequence (Gal & Ghahramani 2016).
        pad_id: the id of padding, whose vector stays zero; None: there is none.
    Raises:
        ValueError: for a rate outside [0, 1), or a stack of another input size.
    """

    def __init__(
        self,
        vocab_size: int | None,
        embedding_dim: int,
        rnn: DeepRNN,
        word_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        input_dropout: float = 0.0,
        pad_id: int | None = None,
    ) -> None:
        super().__init__()
        if rnn.input_size != embedding_dim or rnn.batch_first:
            raise ValueError(f"the stack must be time-major and read {embedding_dim} features, not {rnn.input_size}")
        self.embedding = (
            None
            if vocab_size is None
            else Embedding(vocab_size, embedding_dim, pad_id, word_dropout, embedding_dropout)
        )
        self.input_dropout = check_rate("input_dropout", input_dropout)
        self.rnn = rnn

    def read(self, inputs: Tensor, lengths: Tensor | None = None, state: Any = None) -> tuple[Tensor, StackState]:
        """Ids [T, B] or numbers [T, B, E], lengths [B] and the stack's state -> the stack's outputs [T, B, F] and its
        state afterwards."""
        embedded = inputs if self.embedding is None else self.embedding(inputs)
        if self.training:
            locked = mask(embedded, embedded.shape[1:], self.input_dropout)
            embedded = drop_outputs(embedded, locked, 0.0, training=True)
        return self.rnn(embedded, state, lengths)

    def levels(self) -> list[list[nn.Parameter]]:
        """The parameters level by level, bottom first: the embedding, each layer of the stack, and what reads it."""
        lower = [[] if self.embedding is None else list(self.embedding.parameters()), *self.rnn.levels()]
        below = {id(parameter) for level in lower for parameter in level}  # a tied head shares the embedding's
        head = [parameter for parameter in self.parameters() if id(parameter) not in below]
        return [level for level in (*lower, head) if level]


class SequenceModel(SequenceEncoder):
    """Inputs -> DeepRNN -> pooling, or every step -> answers of the head.

    Args:
        vocab_size, embedding_dim, rnn, word_dropout, embedding_dropout, input_dropout, pad_id: see ``SequenceEncoder``.
        num_outputs: O, width of an answer: logits (1 for a sigmoid head) or numbers.
        pooling: last, max, mean, attention, or several joined by ``+``, see ``Pooling``: an answer a sequence. None: an
            answer a step.
        dropout: on the features that the head reads.
        head_hidden: widths of hidden layers in the head (deep output); none: a linear head.
        init: ``keras`` starts embedding and head as Keras does, anything else as torch does.
    Raises:
        ValueError: for an unknown pooling, a rate outside [0, 1), or a stack of another input size.
    """

    def __init__(
        self,
        vocab_size: int | None,
        num_outputs: int,
        embedding_dim: int,
        rnn: DeepRNN,
        pooling: str | None = "last",
        word_dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
        head_hidden: Sequence[int] = (),
        pad_id: int | None = 0,
        init: str = "torch",
    ) -> None:
        super().__init__(vocab_size, embedding_dim, rnn, word_dropout, embedding_dropout, input_dropout, pad_id)
        self.pooling = None if pooling is None else Pooling(pooling, rnn.output_size, rnn.bidirectional)
        features = rnn.output_size if self.pooling is None else self.pooling.output_size
        self.head = deep_output(features, head_hidden, num_outputs, check_rate("dropout", dropout))
        if init == "keras":
            initialise_as_keras(self.embedding, self.head)
        if self.embedding is not None and pad_id is not None:
            with torch.no_grad():
                self.embedding.weight[pad_id] = 0

    def encode(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Ids [T, B] or numbers [T, B, E], and lengths [B] -> the stack's outputs [T, B, F]."""
        return self.read(inputs, lengths)[0]

    def answer(self, output: Tensor, lengths: Tensor) -> Tensor:
        """Outputs [T, B, F] -> [B, O], or [T, B, O] where every step is answered."""
        return self.head(output if self.pooling is None else self.pooling(output, lengths))

    def forward(self, inputs: Tensor, lengths: Tensor) -> Tensor:
        """Ids [T, B] or numbers [T, B, E], and lengths [B] -> [B, O], or [T, B, O] where every step is answered."""
        return self.answer(self.encode(inputs, lengths), lengths)
