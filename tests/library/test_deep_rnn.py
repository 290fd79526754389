"""What a stack promises whatever its cell: chunks, padding, links, widths, noise, errors."""

import copy

import numpy as np
import pytest
import torch
from helpers import BACKENDS
from torch.utils._pytree import tree_leaves, tree_map

from deep_rnn import CELLS, DeepRNN
from deep_rnn.links import LINKS

EXACT = {"rtol": 0.0, "atol": 1e-12}


def batch(time=7, size=4, features=3, dtype=torch.double):
    return torch.randn(time, size, features, dtype=dtype)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# --- carried state ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("backend", ["auto", "loop"])
def test_chunks_with_carried_state_equal_the_whole(link, backend):
    rnn = DeepRNN(3, [4, 5, 5], 3, ["gru", "lstm", "rnn"], link, backend=backend, dtype=torch.double)
    x = batch()
    whole, whole_state = rnn(x)
    outputs, state = [], None
    for chunk in x.split([1, 4, 2]):
        output, state = rnn(chunk, state)
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs), whole, **EXACT)
    torch.testing.assert_close(tree_leaves(state), tree_leaves(whole_state), **EXACT)


def test_steps_equal_the_whole():
    rnn = DeepRNN(3, 4, 2, "lstm", "highway", dtype=torch.double)
    x = batch()
    whole, whole_state = rnn(x)
    state = None
    for t, x_t in enumerate(x):
        y_t, state = rnn.step(x_t, state)
        torch.testing.assert_close(y_t, whole[t], **EXACT)
    torch.testing.assert_close(tree_leaves(state), tree_leaves(whole_state), **EXACT)


def test_state_passed_in_is_used_and_left_alone():
    rnn = DeepRNN(3, 4, 2, "gru", dtype=torch.double)
    state = tree_map(torch.randn_like, rnn.initial_state(4))
    before = copy.deepcopy(state)
    x = batch()
    with_state, _ = rnn(x, state)
    assert not torch.allclose(with_state, rnn(x)[0])
    torch.testing.assert_close(tree_leaves(state), tree_leaves(before), rtol=0, atol=0)


def test_handed_on_noise_makes_chunks_equal_the_whole_in_training():
    rnn = DeepRNN(
        3, 6, 2, "lstm", dropout=0.5, locked_dropout=True, recurrent_dropout=0.3, weight_drop=0.4, dtype=torch.double
    )
    x, noise = batch(), rnn.draw_noise(4)
    whole, _ = rnn(x, noise=noise)
    first, state = rnn(x[:3], noise=noise)
    second, _ = rnn(x[3:], state, noise=noise)
    torch.testing.assert_close(torch.cat((first, second)), whole, **EXACT)
    assert not torch.allclose(rnn(x)[0], whole)  # masks that are not handed on are drawn anew
    rnn.eval()
    torch.testing.assert_close(rnn(x)[0], rnn(x)[0], rtol=0, atol=0)


def test_carried_state_on_a_bidirectional_stack_raises():
    rnn = DeepRNN(3, 4, 2, bidirectional=True)
    _, state = rnn(batch(dtype=torch.float))
    with pytest.raises(ValueError, match="bidirectional stack ended in cannot be carried on"):
        rnn(batch(dtype=torch.float), state)
    with pytest.raises(ValueError, match="cannot run step by step"):
        rnn.step(torch.zeros(4, 3))


def test_detach_cuts_the_history():
    rnn = DeepRNN(3, 4, 2, "lstm")
    _, state = rnn(batch(dtype=torch.float))
    assert all(leaf.requires_grad for leaf in tree_leaves(state))
    assert not any(leaf.requires_grad for leaf in tree_leaves(DeepRNN.detach(state)))
    assert type(DeepRNN.detach(state)[0]) is type(state[0])


# --- lengths and padding ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_padding_changes_nothing(cell, bidirectional, link, backend):
    rnn = DeepRNN(3, 4, 2, cell, link, bidirectional, backend=backend, dtype=torch.double)
    lengths = torch.tensor([7, 2, 0, 5])
    x = batch()
    padded = torch.arange(7)[:, None] >= lengths
    results = []
    for filler in (0.0, 1e6, float("nan")):
        filled = x.masked_fill(padded[..., None], filler).requires_grad_()
        output, state = rnn(filled, lengths=lengths)
        grads = torch.autograd.grad(output.square().sum(), [filled, *rnn.parameters()])
        results.append((output, *tree_leaves(state), *grads))
        assert not output[padded].any() and not grads[0][padded].any()
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], rtol=0, atol=0)


PADDED = [(cell, {"zoneout": zoneout}) for cell in CELLS for zoneout in (0.0, 0.1)]
PADDED += [(cell, {"layer_norm": True}) for cell in ("rnn", "lstm", "gru")]
PADDED += [(cell, {"recurrent_dropout": 0.2}) for cell in ("rnn", "lstm", "gru")]


@pytest.mark.parametrize(("hidden", "size"), [(5, 20), (40, 20), (64, 1)])  # each has kernels of its own
@pytest.mark.parametrize(("cell", "options"), PADDED)
def test_nan_in_the_padding_reaches_nothing_of_any_cell(cell, options, hidden, size):
    rnn = DeepRNN(3, hidden, 1, cell, bidirectional=True, dtype=torch.double, **options)
    lengths = torch.arange(size) % 7 + (size == 1) * 4
    x, noise = batch(7, size), rnn.draw_noise(size)
    padded = torch.arange(7)[:, None] >= lengths
    results = []
    for filler in (0.0, float("nan")):
        filled = x.masked_fill(padded[..., None], filler).requires_grad_()
        torch.manual_seed(0)
        output, state = rnn(filled, lengths=lengths, noise=noise)
        grads = torch.autograd.grad(output.square().sum(), [filled, *rnn.parameters()])
        results.append((output, *tree_leaves(state), *grads))
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=0)


def test_each_sequence_of_a_padded_batch_equals_itself_alone():
    rnn = DeepRNN(3, 4, 2, "gru", "residual", bidirectional=True, dtype=torch.double)
    lengths = [7, 2, 1, 5]
    x = batch()
    output, state = rnn(x, lengths=lengths)
    for k, length in enumerate(lengths):
        alone, alone_state = rnn(x[:length, k])
        torch.testing.assert_close(output[:length, k], alone, **EXACT)
        torch.testing.assert_close([leaf[k] for leaf in tree_leaves(state)], tree_leaves(alone_state), **EXACT)


@pytest.mark.parametrize("backend", BACKENDS)
def test_length_zero_leaves_the_state_unchanged(backend):
    rnn = DeepRNN(3, 4, 2, "lstm", backend=backend)
    given = tree_map(torch.randn_like, rnn.initial_state(2))
    output, state = rnn(batch(5, 2, dtype=torch.float), given, lengths=[0, 5])
    assert not output[:, 0].any()
    torch.testing.assert_close([leaf[0] for leaf in tree_leaves(state)], [leaf[0] for leaf in tree_leaves(given)])


def test_relu_left_running_through_padding_does_not_overflow():
    rnn = DeepRNN(1, 2, activation="relu", cell="rnn", backend="native")
    with torch.no_grad():
        rnn.layers[0].cells[0].weight_hh.fill_(3.0)
    x = torch.ones(200, 1, 1, requires_grad=True)
    output, _ = rnn(x, lengths=[2])
    output.sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("time", [0, 1])
@pytest.mark.parametrize("size", [0, 1, 2])
def test_empty_and_single_batches_run(time, size):
    rnn = DeepRNN(3, 4, 2, "gru", "dense", bidirectional=True)
    output, state = rnn(torch.randn(time, size, 3))
    assert output.shape == (time, size, rnn.output_size)
    assert all(leaf.shape == (size, 4) for leaf in tree_leaves(state))


# --- links, widths, merges --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "options"),
    [
        ("rnn", {"transition_depth": [2, 1, 3]}),
        ("rnn", {"transition_depth": 2, "shortcut": [False, True, False]}),
        ("lstm", {"transition_depth": [2, 1, 3]}),
        ("gru", {"transition_depth": [2, 1, 3]}),
        ("gru", {"layer_norm": [True, False, True]}),
        ("rhn", {"transition_depth": [2, 3, 1]}),
    ],
)
def test_an_option_that_each_layer_has_its_own_of_is_kept_apart_by_every_backend(cell, options):
    torch.manual_seed(0)
    rnn = DeepRNN(4, 4, 3, cell, dtype=torch.double, **options)  # equal widths, so that weights of all layers fit
    x = torch.randn(5, 2, 4, dtype=torch.double)
    found = []
    for backend in ("auto", "loop"):
        rnn.backend = backend
        output, _ = rnn(x)
        found.append([output, *torch.autograd.grad(output.square().sum(), list(rnn.parameters()))])
    torch.testing.assert_close(*found, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("flag", [1, np.bool_(True)])
def test_any_true_flag_runs_both_ways(flag):
    output, _ = DeepRNN(3, np.int64(4), bidirectional=flag)(torch.randn(6, 3, 3))
    assert output.shape == (6, 3, 8)


def test_a_widths_list_and_a_cell_list_give_each_layer_its_own():
    rnn = DeepRNN(3, [8, 5, 2], 3, ["lstm", "gru", "rnn"], bidirectional=True, merge="sum", activation="relu")
    assert [type(layer.cells[0]) for layer in rnn.layers] == [CELLS["lstm"], CELLS["gru"], CELLS["rnn"]]
    assert rnn.output_size == 2 and rnn(torch.zeros(2, 1, 3))[0].shape[-1] == 2
    assert rnn.layers[2].cells[0].activation == "relu"


@pytest.mark.parametrize(("merge", "size"), [("concat", 8), ("sum", 4), ("mean", 4), ("mul", 4)])
def test_merges_join_the_two_directions(merge, size):
    rnn = DeepRNN(3, 4, 1, "gru", bidirectional=True, merge=merge)
    twin = copy.deepcopy(rnn)
    twin.layers[0].merge = "concat"
    x = batch(dtype=torch.float)
    forward, backward = twin(x)[0].chunk(2, -1)
    joined = {
        "concat": torch.cat((forward, backward), -1),
        "sum": forward + backward,
        "mean": (forward + backward) / 2,
        "mul": forward * backward,
    }
    assert rnn.output_size == size
    torch.testing.assert_close(rnn(x)[0], joined[merge])


def test_residual_adds_the_input_of_each_layer():
    rnn = DeepRNN(4, 4, 2, "gru", "residual", dtype=torch.double)
    x = batch(features=4)
    below = x
    for layer in rnn.layers:
        plain = DeepRNN(4, 4, 1, "gru", dtype=torch.double)
        plain.layers[0].load_state_dict(layer.state_dict())
        below = below + plain(below)[0]
    torch.testing.assert_close(rnn(x)[0], below, **EXACT)
    assert sum(p.numel() for p in rnn.links.parameters()) == 0


def test_highway_begins_by_carrying_its_input():
    rnn = DeepRNN(4, 4, 3, "gru", "highway", gate_bias=-30.0, dtype=torch.double)
    x = batch(features=4)
    torch.testing.assert_close(rnn(x)[0], x, rtol=0, atol=1e-10)
    assert (DeepRNN(4, 4, 2, link="highway").links[1].gate.bias == -2).all()


def test_dense_feeds_every_layer_all_below_and_gives_all_layers_out():
    rnn = DeepRNN(3, [4, 5], 2, "gru", "dense", dtype=torch.double)
    assert [layer.cells[0].input_size for layer in rnn.layers] == [3, 7] and rnn.output_size == 9
    x = batch()
    first = DeepRNN(3, 4, 1, "gru", dtype=torch.double)
    first.layers[0].load_state_dict(rnn.layers[0].state_dict())
    torch.testing.assert_close(rnn(x)[0][..., :4], first(x)[0], **EXACT)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("link", LINKS)
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_gradients_are_those_of_finite_differences(cell, link, bidirectional):
    rnn = DeepRNN(2, [3, 2], 2, cell, link, bidirectional, backend="loop", dtype=torch.double)
    x = batch(3, 2, 2).requires_grad_()
    names, values = zip(*rnn.named_parameters(), strict=True)

    def run(x, *parameters):
        return torch.func.functional_call(rnn, dict(zip(names, parameters, strict=True)), (x, None, [3, 2]))[0]

    assert torch.autograd.gradcheck(run, (x, *values))


# --- toy cells a reader can do by hand --------------------------------------------------------------------------------


def test_a_linear_rnn_with_unit_weights_sums_its_inputs():
    rnn = DeepRNN(1, 1, cell="rnn", activation="identity", bias=False)
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.fill_(1.0)
    output, state = rnn(torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None, None])
    assert output.flatten().tolist() == [1, 3, 6, 10] and state[0].h.item() == 10
    output, _ = rnn(torch.tensor([1.0, 2.0, 3.0, 4.0])[:, None, None], lengths=[2])
    assert output.flatten().tolist() == [1, 3, 0, 0]


def test_two_such_layers_sum_the_sums_and_backwards_from_the_end():
    options = {"cell": "rnn", "activation": "identity", "bias": False}
    deep, both = DeepRNN(1, 1, 2, **options), DeepRNN(1, 1, 1, bidirectional=True, **options)
    with torch.no_grad():
        for parameter in [*deep.parameters(), *both.parameters()]:
            parameter.fill_(1.0)
    x = torch.tensor([1.0, 2.0, 3.0])[:, None, None]
    assert deep(x)[0].flatten().tolist() == [1, 4, 10]
    assert both(x)[0].squeeze(1).tolist() == [[1, 6], [3, 5], [6, 3]]
    assert both(x, lengths=[2])[0].squeeze(1).tolist() == [[1, 3], [3, 2], [0, 0]]


# --- what it says -----------------------------------------------------------------------------------------------------


def test_explain_names_the_backend_and_the_reason():
    assert DeepRNN(3, 4, 3, "gru", backend="native").explain() == "layers 0-2 in one call: native (asked for)"
    assert "torch.nn has no layer that computes this SLSTMCell" in DeepRNN(3, 4, 1, "slstm").explain()
    lines = DeepRNN(3, 4, 2, "lstm", "residual", recompute=2).explain(torch.zeros(5, 2, 3)).splitlines()
    assert [line.split(" (")[0] for line in lines] == ["layer 0: loop", "layer 1: loop"]
    assert "not native: torch's layers cannot recompute in chunks of time" in lines[0]


def test_a_backend_that_cannot_raises_with_the_reason():
    rnn = DeepRNN(3, 4, 1, "gru", reset_after=False, backend="native")
    with pytest.raises(ValueError, match=r"backend=native cannot run this: torch\.nn has no layer"):
        rnn(torch.zeros(2, 1, 3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cell": "gruu"}, r"unknown cell 'gruu' \(did you mean gru\?\)"),
        ({"cell": "no.such.module.Cell"}, "cannot be imported"),
        ({"cell": "torch.nn.Linear"}, "no subclass of"),
        ({"link": "residul"}, r"unknown link 'residul' \(did you mean residual\?\)"),
        ({"merge": "average"}, "unknown merge 'average'; known: concat, mean, mul, sum"),
        ({"init": "kears"}, r"did you mean keras\?"),
        ({"backend": "nativ"}, r"did you mean native\?"),
        ({"input_size": 0}, "input_size must be at least 1, not 0"),
        ({"num_layers": 0}, "num_layers must be at least 1, not 0"),
        ({"hidden_size": 0}, "hidden_size must be a whole number of at least 1, not 0"),
        ({"hidden_size": [4, 5, 6]}, "hidden_size lists 3 values for 2 layers"),
        ({"cell": ["gru"]}, "cell lists 1 values for 2 layers"),
        ({"dropout": 1.5}, "dropout is a probability from 0 to 1, not 1.5"),
        ({"zoneout": 1.0}, "zoneout is a probability"),
        ({"cell": "rnn", "activation": "rleu"}, r"unknown activation 'rleu' \(did you mean relu\?\)"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        DeepRNN(**{"input_size": 3, "hidden_size": 4, "num_layers": 2, **arguments})


def test_an_option_no_cell_takes_is_named():
    with pytest.raises(TypeError, match=r"GRUCell has no option 'reset_afer' \(did you mean reset_after\?\)"):
        DeepRNN(3, 4, cell="gru", reset_afer=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": torch.zeros(2, 1, 5)}, r"input_size=3, not \[2, 1, 5\]"),
        ({"x": torch.zeros(2, 2, 3), "lengths": [1]}, r"lengths must have shape \[2\]"),
        ({"x": torch.zeros(2, 2, 3), "lengths": [1, 3]}, "lengths must be from 0 to 2, not 1 to 3"),
        ({"x": torch.zeros(2, 2, 3), "state": ((torch.zeros(2, 4),),)}, "state has 1 entries; this stack has 2 layers"),
        ({"x": torch.zeros(2, 2, 3), "state": (torch.zeros(2, 4),) * 2}, "must be HiddenState"),
        ({"x": torch.zeros(2, 2, 3), "state": ((torch.zeros(2, 5),),) * 2}, r"h must have shape \[2, 4\]"),
    ],
)
def test_wrong_inputs_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        DeepRNN(3, 4, 2, "gru")(**arguments)


def test_state_dict_round_trip_and_deepcopy_keep_results():
    rnn = DeepRNN(3, 4, 2, "lstm", "highway", bidirectional=True)
    x = batch(dtype=torch.float)
    twin = DeepRNN(3, 4, 2, "lstm", "highway", bidirectional=True)
    twin.load_state_dict(rnn.state_dict())
    for other in (twin, copy.deepcopy(rnn)):
        torch.testing.assert_close(other(x)[0], rnn(x)[0], rtol=0, atol=0)


def test_keras_initialisation_is_kerass():
    cell = DeepRNN(32, 5, cell="lstm", init="keras").layers[0].cells[0]
    limit = (6 / (32 + 4 * 5)) ** 0.5
    assert 0.9 * limit < cell.weight_ih.abs().max() <= limit
    torch.testing.assert_close(cell.weight_hh.T @ cell.weight_hh, torch.eye(5), atol=1e-5, rtol=0)
    assert (cell.bias_ih + cell.bias_hh).tolist() == [0] * 5 + [1] * 5 + [0] * 10


def test_lengths_without_padding_run_as_no_lengths_at_all():
    rnn, x = DeepRNN(3, 4, 2, "gru", backend="native"), torch.randn(6, 2, 3)
    assert rnn.explain(x, [6, 6]) == rnn.explain(x) != rnn.explain(x, [6, 5])
    assert torch.equal(rnn(x, lengths=[6, 6])[0], rnn(x)[0])
