"""What is timed: a stack of recurrent layers at one size, and the lists of sizes."""

from typing import NamedTuple

import torch
from torch import Tensor

CELLS = ("rnn", "lstm", "gru")
PASSES = ("forward", "forward+backward", "training step")
VOCABULARY = 10_000  # of the embedding in a whole training step, as in the seed experiments


class Case(NamedTuple):
    """A stack, a batch, and what is done with them."""

    cell: str
    widths: tuple[int, ...]  # units of each layer
    time: int
    batch: int
    input_size: int
    what: str = "forward+backward"  # one of PASSES
    both_ways: bool = False
    ragged: bool = False  # whether lengths vary, from 87 % of the steps to all

    @property
    def shape(self) -> str:
        """The size in one word, as ``--sizes`` reads it: widths x layers x time x batch."""
        width = str(self.widths[0]) if len(set(self.widths)) == 1 else "-".join(map(str, self.widths))
        return f"{width}x{len(self.widths)}x{self.time}x{self.batch}"

    def lengths(self) -> Tensor | None:
        """[B] the valid steps of each sequence, the same at every call; None: all."""
        if not self.ragged:
            return None
        generator = torch.Generator().manual_seed(0)
        return torch.randint(round(0.87 * self.time), self.time + 1, (self.batch,), generator=generator)

    def tokens(self) -> int:
        """Valid steps of the whole batch."""
        lengths = self.lengths()
        return self.time * self.batch if lengths is None else int(lengths.sum())


Size = tuple[int, int, int, int]
"""(hidden, layers, time, batch)."""

TABLE: list[Size] = [(5, 2, 100, 32), (64, 2, 100, 32), (128, 3, 100, 32), (512, 3, 35, 32)]
"""The sizes for which a speed is promised."""

USUAL: list[Size] = [
    *TABLE,
    (5, 2, 100, 1),
    (5, 2, 400, 128),
    (5, 8, 100, 32),
    (64, 2, 100, 1),
    (64, 2, 400, 32),
    (64, 8, 100, 32),
    (128, 1, 100, 1),
    (128, 2, 100, 128),
    (256, 1, 100, 1),
    (256, 2, 100, 32),
    (256, 1, 35, 128),
    (512, 2, 35, 1),
    (512, 1, 100, 32),
    (1024, 1, 35, 1),
    (1024, 1, 35, 32),
]
"""What a run without options times: every width, batch and length, and corners of the whole grid, within an hour."""

WHOLE: list[Size] = [
    (hidden, layers, time, batch)
    for hidden in (5, 64, 128, 256, 512, 1024)
    for layers in range(1, 9)
    for time in (35, 100, 400)
    for batch in (1, 32, 128)
]
"""The whole grid, for a weekend."""


def case(cell: str, size: Size, what: str) -> Case:
    """A plain stack at a size; its input is as wide as its layers, at width 5 as the seed's embedding of 32."""
    hidden, layers, time, batch = size
    return Case(cell, (hidden,) * layers, time, batch, 32 if hidden == 5 else hidden, what)


def seed_deep(what: str) -> Case:
    """The stack of ``experiment=seed_deep_lstm``: two widths, an embedding of 64."""
    return Case("lstm", (128, 64), 100, 32, 64, what)


def variable_lengths(cell: str, time: int = 230) -> Case:
    """A bidirectional layer of 64 over 64 sequences of 200 to ``time`` steps."""
    return Case(cell, (64,), time, 64, 64, "forward+backward", both_ways=True, ragged=True)
