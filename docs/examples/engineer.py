"""A tagger that somebody else has written, accelerated in one line: same answers, same checkpoint, less time.

    python docs/examples/engineer.py                      a few seconds
    python docs/examples/engineer.py --units 256 --sentences 64

Needs torch and deep_rnn alone.
"""

import argparse
import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import deep_rnn

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--units", type=int, default=128)
parser.add_argument("--sentences", type=int, default=32, help="in a batch")
parser.add_argument("--longest", type=int, default=60, help="words of the longest sentence")
parser.add_argument("--turns", type=int, default=10, help="how often each is timed, in turn")
parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="default: torch's choice")
asked = parser.parse_args()
torch.set_num_threads(asked.threads)
torch.manual_seed(0)


class Tagger(nn.Module):
    """A tag for every word: nothing here knows of deep_rnn."""

    def __init__(self, words: int, tags: int, units: int) -> None:
        super().__init__()
        self.vectors = nn.Embedding(words, 64)
        self.lstm = nn.LSTM(64, units, num_layers=2, bidirectional=True, batch_first=True, dropout=0.3)
        self.head = nn.Linear(2 * units, tags)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """[B, T] ids and [B] lengths -> [B, T, tags]."""
        packed = pack_padded_sequence(self.vectors(ids), lengths, batch_first=True, enforce_sorted=False)
        return self.head(pad_packed_sequence(self.lstm(packed)[0], batch_first=True)[0])


def step(model: nn.Module) -> float:
    """Seconds of one forward and backward pass."""
    started = time.perf_counter()
    model.zero_grad()
    nn.functional.cross_entropy(model(ids, lengths).flatten(0, 1), tags.flatten(), ignore_index=-1).backward()
    return time.perf_counter() - started


lengths = torch.randint(2, asked.longest + 1, (asked.sentences,))
lengths[0] = asked.longest
ids = torch.randint(0, 1000, (asked.sentences, asked.longest))
tags = torch.randint(0, 9, ids.shape).masked_fill(torch.arange(asked.longest) >= lengths[:, None], -1)

before = Tagger(1000, 9, asked.units).eval()
after = Tagger(1000, 9, asked.units).eval()
deep_rnn.accelerate(after)  # the one line
after.load_state_dict(before.state_dict())  # a checkpoint of the one is one of the other
print(deep_rnn.explain(after))

with torch.no_grad():
    difference = (before(ids, lengths) - after(ids, lengths)).abs().max().item()
print(f"largest difference between their answers: {difference:.1e}")
assert difference < 1e-4

before.train()
after.train()
times = [(step(before), step(after)) for _ in range(asked.turns + 2)][2:]  # the first two warm up
ours, theirs = (statistics.median(column) * 1000 for column in ([b for _, b in times], [a for a, _ in times]))
print(f"forward and backward: torch.nn {theirs:.1f} ms, accelerated {ours:.1f} ms, {theirs / ours:.1f} times as fast")
