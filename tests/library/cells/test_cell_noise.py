"""Recurrent, candidate and weight dropout and zoneout in every cell that has a place for them."""

import pytest
import torch
from cell_cases import CASES, PLAIN, batch
from torch.utils._pytree import tree_leaves

EXACT = {"rtol": 0.0, "atol": 1e-12}
KINDS = ("recurrent_dropout", "candidate_dropout", "weight_drop", "zoneout")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def takes(case, kind):
    """Whether the cell's equations have a place for this kind of noise."""
    cell = case.build().layers[0].cell
    return {
        "recurrent_dropout": "state" in cell.noises,
        "candidate_dropout": "candidate" in cell.noises,
        "weight_drop": bool(cell.recurrent_weights),
        "zoneout": True,
    }[kind]


TAKEN = [pytest.param(case, kind, id=f"{case}-{kind}") for case in CASES for kind in KINDS if takes(case, kind)]
REFUSED = [pytest.param(case, kind, id=f"{case}-{kind}") for case in PLAIN for kind in KINDS if not takes(case, kind)]


@pytest.mark.parametrize(("case", "kind"), TAKEN)
def test_noise_changes_training_and_not_evaluation(case, kind):
    rnn, x = case.build(8, layers=2, **{kind: 0.4}), batch()
    silent = case.build(8, layers=2)
    silent.load_state_dict(rnn.state_dict())
    assert not torch.allclose(rnn(x)[0], silent(x)[0], rtol=0, atol=1e-6)
    assert not torch.allclose(rnn(x)[0], rnn(x)[0], rtol=0, atol=1e-6)  # drawn anew each call
    rnn.eval()
    torch.testing.assert_close(rnn(x)[0], rnn(x)[0], rtol=0, atol=0)
    if kind != "zoneout":  # whose expectation stays at evaluation
        torch.testing.assert_close(rnn(x)[0], silent(x)[0], **EXACT)


@pytest.mark.parametrize(("case", "kind"), [param for param in TAKEN if param.values[1] != "zoneout"])
def test_handed_on_noise_makes_chunks_equal_the_whole(case, kind):
    rnn, x = case.build(8, layers=2, **{kind: 0.4}), batch()
    noise = rnn.draw_noise(3)
    output, ended = rnn(x, noise=noise)
    first, between = rnn(x[:2], noise=noise)
    second, last = rnn(x[2:], between, noise=noise)
    torch.testing.assert_close(torch.cat((first, second)), output, **EXACT)
    torch.testing.assert_close(tree_leaves(last), tree_leaves(ended), **EXACT)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_zoneout_in_chunks_equals_the_whole(case):
    rnn, x = case.build(8, zoneout=0.4), batch()
    for training in (True, False):
        rnn.train(training)
        torch.manual_seed(1)
        output, ended = rnn(x)
        torch.manual_seed(1)  # its draws come step by step, so the same seed gives the same ones
        first, between = rnn(x[:2])
        second, last = rnn(x[2:], between)
        torch.testing.assert_close(torch.cat((first, second)), output, **EXACT)
        torch.testing.assert_close(tree_leaves(last), tree_leaves(ended), **EXACT)


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_zoneout_holds_only_what_the_cell_allows(case):
    rnn = case.build(zoneout=0.4)
    cell = rnn.layers[0].cell
    held = [field for field, rate in zip(cell.State._fields, rnn.layers[0].zoneout, strict=True) if rate]
    assert held == list(cell.zoneable or cell.State._fields)


@pytest.mark.parametrize(("case", "kind"), REFUSED)
def test_noise_that_means_nothing_to_a_cell_is_refused(case, kind):
    with pytest.raises(ValueError, match=rf"{kind}: {type(case.build().layers[0].cell).__name__} has no recurrent"):
        case.build(**{kind: 0.4})


@pytest.mark.parametrize("case", [case for case in CASES if takes(case, "weight_drop")], ids=str)
def test_weight_drop_reaches_every_recurrent_matrix(case):
    cell = case.build(8, weight_drop=0.4).layers[0].cell
    matrices = {name for name, value in cell.named_parameters() if name.startswith("weight_hh") and value.dim() == 2}
    assert set(cell.recurrent_weights) == matrices
    rnn, x = case.build(8, weight_drop=0.4), batch()
    (noise,) = rnn.draw_noise(3)
    whole = rnn(x, noise=(noise,))[0]
    (masks,) = noise.cells
    for name in matrices:  # each matters: with the one matrix undropped the output is another
        fewer = masks._replace(weights={**masks.weights, name: torch.ones_like(masks.weights[name])})
        assert not torch.allclose(rnn(x, noise=(noise._replace(cells=(fewer,)),))[0], whole, rtol=0, atol=1e-9), name
