"""Sequences that begin anew inside a call: each episode is what it is alone, on every backend."""

import re
from itertools import pairwise

import pytest
import torch
from helpers import BACKENDS
from torch.func import vmap
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils._pytree import tree_leaves, tree_map

from deep_rnn import DeepRNN, episodes
from deep_rnn.links import LINKS

TIME, BATCH = 9, 5
EXACT = {"rtol": 0.0, "atol": 1e-12}
LENGTHS = torch.tensor([9, 4, 0, 7, 1])
STARTS = torch.zeros(TIME, BATCH, dtype=torch.bool)
for _t, _b in [(0, 0), (4, 0), (5, 0), (3, 1), (6, 1), (0, 2), (2, 2), (6, 3), (8, 3), (0, 4)]:
    STARTS[_t, _b] = True  # column 1 also behind its length, column 2 where there is no step, 4 at the first only


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def stack(layers=2, cell="lstm", **options):
    rnn = DeepRNN(3, 4, layers, cell, dtype=torch.double, **options)
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.uniform_(-0.7, 0.7)  # first states that are learned, too
    return rnn


def batch(requires_grad=True):
    return torch.randn(TIME, BATCH, 3, dtype=torch.double).requires_grad_(requires_grad)


def some_state(rnn):
    return tree_map(lambda value: torch.randn_like(value).requires_grad_(), rnn.initial_state(BATCH))


def results(rnn, x, state, lengths, starts=STARTS):
    """Output, states, and the gradients of all that enters."""
    output, ended = rnn(x, state, lengths, starts=starts)
    found = [output, *tree_leaves(ended)]
    leaves = [x, *rnn.parameters(), *([] if state is None else tree_leaves(state))]
    loss = sum((value * torch.linspace(-1, 2, value.numel()).view_as(value)).sum() for value in found)
    return found + list(torch.autograd.grad(loss, leaves, materialize_grads=True))


def columns_of(state, column):
    return tree_map(lambda value: value[column : column + 1], state)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("given", [False, True], ids=["first_state", "given_state"])
@pytest.mark.parametrize("bidirectional", [False, True, "stacks"])
@pytest.mark.parametrize("backend", ["loop", "auto"])
def test_each_episode_is_what_it_is_alone(backend, bidirectional, given, lengths):
    rnn = stack(1, "gru", bidirectional=bidirectional, learn_state=True, backend=backend)
    x, state = batch(), some_state(rnn) if given else None
    output, ended = rnn(x, state, lengths, starts=STARTS)
    fresh = rnn.initial_state(1)
    for column in range(BATCH):
        length = TIME if lengths is None else int(lengths[column])
        marks = [t for t in range(length) if STARTS[t, column]]
        bounds = sorted({0, *marks, length}) if length else [0, 0]
        pieces = list(pairwise(bounds))
        mine = fresh if state is None else columns_of(state, column)
        ends = []
        for number, (first, last) in enumerate(pieces):
            goes_on = number == 0 and 0 not in marks, number == len(pieces) - 1
            if bidirectional:
                begun = (tuple((mine if on else fresh)[0][way] for way, on in enumerate(goes_on)),)
            else:
                begun = mine if goes_on[0] else fresh
            alone, end = rnn(x[first:last, column : column + 1], begun)
            torch.testing.assert_close(output[first:last, column : column + 1], alone, **EXACT)
            ends.append(end[0])
        assert not output[length:, column].any()
        expected = (ends[-1].forward.h, ends[0].backward.h) if bidirectional else (ends[-1].h,)
        torch.testing.assert_close(tree_leaves(columns_of(ended, column)), list(expected), **EXACT)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("given", [False, True], ids=["first_state", "given_state"])
@pytest.mark.parametrize("bidirectional", [False, True, "stacks"])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_backends_equal_the_loop(cell, bidirectional, given, lengths, backend):
    rnn = stack(cell=cell, bidirectional=bidirectional, learn_state=True, backend="loop")
    x, state = batch(), some_state(rnn) if given else None
    expected = results(rnn, x, state, lengths)
    rnn.backend = backend
    torch.testing.assert_close(results(rnn, x, state, lengths), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("options", [{}, {"norm": "layer"}, {"recompute": 2}, {"zoneout": 0.2}], ids=str)
def test_links_norms_and_cells_of_any_kind(link, options):
    rnn = stack(3, ["gru", "slstm", "janet"], link=link, backend="loop", **options).eval()
    x, state = batch(), some_state(rnn)
    expected = results(rnn, x, state, LENGTHS)
    rnn.backend = "auto"
    torch.testing.assert_close(results(rnn, x, state, LENGTHS), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("backend", ["loop", "auto"])
def test_chunks_with_carried_state_equal_the_whole(backend):
    rnn, x = stack(cell=["gru", "lstm"], link="residual", backend=backend, learn_state=True), batch()
    whole, whole_state = rnn(x, starts=STARTS)
    outputs, state = [], None
    for part, starts in zip(x.split([1, 4, 4]), STARTS.split([1, 4, 4]), strict=True):
        output, state = rnn(part, state, starts=starts)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs), whole, **EXACT)
    torch.testing.assert_close(tree_leaves(state), tree_leaves(whole_state), **EXACT)


def test_masks_that_are_handed_on_hold_for_the_whole_call():
    options = {"dropout": 0.5, "locked_dropout": True, "recurrent_dropout": 0.3, "weight_drop": 0.3}
    for bidirectional in (False, "stacks"):
        rnn = stack(cell="lstm", candidate_dropout=0.2, bidirectional=bidirectional, **options)
        x, noise = batch(), rnn.draw_noise(BATCH)
        found, _ = rnn(x, noise=noise, starts=STARTS)
        rnn.backend = "loop"
        torch.testing.assert_close(found, rnn(x, noise=noise, starts=STARTS)[0], **EXACT)
        rnn.backend = "auto"
        torch.manual_seed(1)
        drawn, noise = rnn(x, starts=STARTS)[0], (torch.manual_seed(1), rnn.draw_noise(BATCH))[1]
        torch.testing.assert_close(drawn, rnn(x, noise=noise, starts=STARTS)[0], **EXACT)


def test_layouts():
    rnn, x = stack(), batch()
    expected, _ = rnn(x, starts=STARTS)
    unbatched, _ = rnn(x[:, 3], starts=STARTS[:, 3])
    torch.testing.assert_close(unbatched, expected[:, 3], **EXACT)
    layers, _ = rnn.layer_outputs(x, starts=STARTS, lengths=LENGTHS)
    padded, _ = rnn(x, starts=STARTS, lengths=LENGTHS)
    torch.testing.assert_close(layers[1], padded, **EXACT)
    some = LENGTHS.clamp(min=1)
    packed, _ = rnn(pack_padded_sequence(x, some, enforce_sorted=False), starts=STARTS)
    torch.testing.assert_close(pad_packed_sequence(packed)[0], rnn(x, lengths=some, starts=STARTS)[0], **EXACT)
    first = stack(batch_first=True)
    first.load_state_dict(rnn.state_dict())
    torch.testing.assert_close(first(x.transpose(0, 1), starts=STARTS.T)[0].transpose(0, 1), expected, **EXACT)


@pytest.mark.parametrize("backend", ["loop", "scan", "auto"])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_in_a_graph(bidirectional, backend):
    torch._dynamo.reset()
    rnn = stack(1, "gru", bidirectional=bidirectional, learn_state=True, backend=backend)
    x, state = batch(), some_state(rnn)
    compiled = torch.compile(rnn, fullgraph=True, backend="aot_eager")
    found = [*tree_leaves(compiled(x, state, LENGTHS, starts=STARTS))]
    gradient = torch.autograd.grad(sum(value.sin().sum() for value in found), [x, *rnn.parameters()])
    rnn.backend = "loop"
    expected = tree_leaves(rnn(x, state, LENGTHS, starts=STARTS))
    torch.testing.assert_close(found, expected, **EXACT)
    wanted = torch.autograd.grad(sum(value.sin().sum() for value in expected), [x, *rnn.parameters()])
    torch.testing.assert_close(gradient, wanted, **EXACT)


def test_an_exported_program_begins_anew_where_it_is_told():
    rnn, x = stack().eval(), batch(False)
    with torch.no_grad():
        program = torch.export.export(rnn, (x,), {"starts": STARTS}).module()
    for starts in (STARTS, STARTS.flip(0)):
        torch.testing.assert_close(program(x, starts=starts)[0], rnn(x, starts=starts)[0], **EXACT)


@pytest.mark.parametrize("bidirectional", [False, True, "stacks"])
def test_mapped_by_vmap(bidirectional):
    rnn, x = stack(cell="gru", bidirectional=bidirectional), batch(False)
    many = torch.stack((STARTS, STARTS.flip(0)))
    found = vmap(lambda starts: rnn(x, None, LENGTHS, starts=starts)[0])(many)
    for index, starts in enumerate(many):
        torch.testing.assert_close(found[index], rnn(x, None, LENGTHS, starts=starts)[0], **EXACT)


def test_a_graph_of_a_backend_that_cannot_says_so():
    torch._dynamo.reset()
    rnn = stack(1, "gru", backend="native")
    with pytest.raises(Exception, match="begin anew inside a call"):
        torch.compile(rnn, fullgraph=True, backend="eager")(batch(), starts=STARTS)


def test_without_a_start_inside_nothing_is_cut(monkeypatch):
    def never(*_):
        raise AssertionError("cut")

    monkeypatch.setattr("deep_rnn.running.cut", never)
    for bidirectional in (False, True, "stacks"):
        rnn, x = stack(bidirectional=bidirectional, learn_state=True), batch()
        starts = torch.zeros_like(STARTS)
        starts[0, :3] = True
        for state in (None, some_state(rnn)):
            found = results(rnn, x, state, LENGTHS, starts)
            rnn.backend = "loop"
            torch.testing.assert_close(found, results(rnn, x, state, LENGTHS, starts), rtol=0, atol=1e-10)
            rnn.backend = "auto"


def test_empty_batches_and_sequences():
    rnn = stack()
    for shape in ((0, 2, 3), (4, 0, 3)):
        output, _ = rnn(torch.zeros(shape, dtype=torch.double), starts=torch.zeros(shape[:2], dtype=torch.bool))
        assert output.shape == (*shape[:2], 4)
    x = batch()
    output, ended = rnn(x, state := some_state(rnn), [0] * BATCH, starts=~STARTS)
    assert not output.any()
    torch.testing.assert_close(tree_leaves(ended), tree_leaves(state), **EXACT)


@pytest.mark.parametrize(
    ("starts", "found"),
    [
        (STARTS.float(), "torch.float32 [9, 5]"),
        (STARTS.T, "torch.bool [5, 9]"),
        (STARTS[0], "torch.bool [5]"),
        (STARTS.long().tolist(), "torch.int64 [9, 5]"),
    ],
)
def test_starts_of_another_shape_or_kind_are_refused(starts, found):
    with pytest.raises(ValueError, match=re.escape(f"starts must be bool [time, batch] = [9, 5], not {found}")):
        stack()(batch(), starts=starts)
    with pytest.raises(
        ValueError, match=re.escape("starts must be bool [batch, time] = [5, 9], not torch.bool [9, 5]")
    ):
        stack(batch_first=True)(batch().transpose(0, 1), starts=STARTS)


def test_the_pieces_that_other_layers_build_on():
    """State tensors with dimensions before the batch, as torch.nn has them."""
    cut = episodes.cut(STARTS, LENGTHS)
    rows = len(cut.column)
    assert cut.lengths.tolist() == [4, 1, 4, 3, 1, 0, 6, 1, 1] and rows == 9
    h = torch.randn(2, 3, BATCH, 4)
    begun = cut.state(h)
    assert begun.shape == (2, 3, rows, 4)
    assert [r for r in range(rows) if begun[..., r, :].any()] == [3, 5, 6]
    torch.testing.assert_close(cut.last(begun)[:, :, 2], h[:, :, 2])
    x = torch.randn(TIME, BATCH, 3)
    valid = torch.arange(TIME)[:, None] < LENGTHS
    torch.testing.assert_close(cut.whole(cut.rows(x)), x * valid[..., None])
