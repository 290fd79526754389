"""How far back a state depends on the input, and what can be read off it, on stacks whose answer is known."""

import pytest
import torch
from scenes import make_batch, make_scene

from deep_rnn import DeepRNN
from src.data.batch import Batch
from src.diagnostics import memory
from src.diagnostics.probe import gather, judge, ridge


def linear(layers: int = 1, kept: float = 0.5) -> DeepRNN:
    """h_t = ``kept`` h_{t-1} + 2 x_t, in every layer."""
    rnn = DeepRNN(1, 1, layers, cell="rnn", activation="identity", bias=False)
    with torch.no_grad():
        for layer in rnn.layers:
            layer.cell.weight_ih.fill_(2.0)
            layer.cell.weight_hh.fill_(kept)
    return rnn


def test_a_linear_unit_forgets_by_its_own_weight_whatever_the_length():
    norms = memory.measure(make_scene(linear(2), make_batch(6, [6, 3], 1)))
    steps = torch.arange(6)
    torch.testing.assert_close(torch.tensor(norms[0]), (2 * 0.5**steps).double())
    torch.testing.assert_close(torch.tensor(norms[1]), (4 * 0.5**steps * (steps + 1)).double())  # over all ways up


def test_what_has_all_but_vanished_is_still_measured():
    norms = memory.measure(make_scene(linear(kept=1e-2), make_batch(16, [16], 1)))
    assert norms[0, 15] == pytest.approx(2e-30, rel=1e-4)  # whose square is nought in float32


def test_the_probe_reads_off_a_state_what_stands_in_it_and_not_what_is_lost():
    torch.manual_seed(0)
    bits = torch.randint(0, 2, (12, 64))
    x = (2.0 * bits - 1)[..., None]
    batches = [Batch(x, bits[place], torch.full((64,), 12)) for place in (-1, 0)]
    scores = []
    for batch in batches:  # the class is the last input, then the first
        scene = make_scene(linear(kept=0.25), batch)  # what is left of the past never hides the last bit
        with scene.still(), torch.no_grad():
            (_, features), targets = gather(scene, "train", 64)
        half = features[:32], targets[:32]
        scores.append(judge(ridge(*half, 0.01), features[32:], targets[32:]))
    assert scores[0] == 1.0 and scores[1] < 0.75


def test_the_probe_reads_numbers_and_targets_of_every_step_too_and_leaves_out_unknown_classes():
    torch.manual_seed(0)
    x = torch.randn(7, 30, 1)
    lengths = torch.randint(1, 8, (30,))
    classes = (x[..., 0] > 0).long()
    classes[0] = -1
    for targets, enough in ((classes, 0.9), (3 * x, 0.99)):
        scene = make_scene(linear(), Batch(x, targets, lengths))
        with scene.still(), torch.no_grad():
            (read, states), wanted = gather(scene, "train", 1000)
            (some, _), _ = gather(scene, "train", 20)
        known = int(lengths.sum()) - (30 if targets is classes else 0)
        assert len(read) == len(wanted) == len(states) == known and len(some) == 20
        column = x[:, 0, 0][: lengths[0]].double()
        begins = 1 if targets is classes else 0
        assert some[: len(column) - begins, 0].tolist() == column[begins:].tolist()  # whole sequences, not first steps
        assert judge(ridge(read, wanted, 1e-6), read, wanted) > enough


def test_ridge_is_the_least_squares_fit_that_sklearn_finds():
    from sklearn.linear_model import Ridge

    torch.manual_seed(0)
    x, y = torch.randn(50, 4).double(), torch.randn(50, 2).double()
    scaled = (x - x.mean(0)) / x.std(0, correction=0)
    theirs = Ridge(alpha=50 * 0.1).fit(scaled, y).predict(scaled)
    torch.testing.assert_close(ridge(x, y, 0.1)(x), torch.tensor(theirs))
