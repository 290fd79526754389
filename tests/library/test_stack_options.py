"""Depth and its options: norms, two whole stacks, every layer's outputs, budgets, learned states, initialisers."""

import math

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from deep_rnn import CELLS, DeepRNN
from deep_rnn.cells import NO_NOISE
from deep_rnn.dropout import drop_words
from src.modules.budget import count_parameters, fit_width
from src.modules.penalties import activation_penalty, temporal_penalty

EXACT = {"rtol": 0.0, "atol": 1e-12}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def gradient_at_the_bottom(link):
    """Norm of the gradient that reaches the input of 50 vanilla layers, over the norm that enters at their top."""
    torch.manual_seed(0)
    rnn = DeepRNN(16, 16, 50, "rnn", link)
    x = torch.randn(5, 8, 16, requires_grad=True)
    output, _ = rnn(x)
    (gradient,) = torch.autograd.grad(output.sum(), x)
    return (gradient.norm() / math.sqrt(output.numel())).item()


def test_gradients_vanish_in_a_plain_deep_stack_and_not_through_links():
    assert gradient_at_the_bottom("none") < 1e-10
    assert gradient_at_the_bottom("residual") > 0.1
    assert gradient_at_the_bottom("highway") > 1e-4


@pytest.mark.parametrize("place", ["pre", "post"])
@pytest.mark.parametrize("norm", ["layer", "rms"])
@pytest.mark.parametrize("link", ["none", "residual", "highway", "dense"])
def test_norms_change_neither_chunks_nor_padding(link, norm, place):
    rnn = DeepRNN(3, [4, 5], 2, "gru", link, norm=norm, norm_place=place, dtype=torch.double)
    with torch.no_grad():
        for parameter in rnn.norms.parameters():
            parameter.uniform_(0.5, 1.5)
    x, lengths = torch.randn(6, 3, 3, dtype=torch.double), [6, 2, 0]
    whole, state = rnn(x)
    first, carried = rnn(x[:2])
    second, ended = rnn(x[2:], carried)
    torch.testing.assert_close(torch.cat((first, second)), whole, **EXACT)
    torch.testing.assert_close(tree_leaves(ended), tree_leaves(state), **EXACT)
    padded, _ = rnn(x, lengths=lengths)
    torch.testing.assert_close(padded[:2, 1], rnn(x[:2, 1])[0], **EXACT)
    assert not padded[2:, 1].any() and not padded[:, 2].any()


def test_post_norm_normalises_the_output():
    output, _ = DeepRNN(8, 32, 2, "gru", "residual", norm="layer", norm_place="post")(torch.randn(4, 2, 8))
    torch.testing.assert_close(output.mean(-1), torch.zeros(4, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(output.std(-1, correction=0), torch.ones(4, 2), atol=1e-3, rtol=0)


@pytest.mark.parametrize("merge", ["concat", "sum", "mean", "mul"])
@pytest.mark.parametrize("link", ["none", "dense"])
def test_two_whole_stacks_are_a_stack_and_a_stack_over_the_reverse(link, merge):
    rnn = DeepRNN(3, 4, 2, "lstm", link, "stacks", merge, dtype=torch.double)
    x, lengths = torch.randn(5, 2, 3, dtype=torch.double), [5, 3]
    one, other = (DeepRNN(3, 4, 2, "lstm", link, dtype=torch.double) for _ in range(2))
    own = {key: value for key, value in rnn.state_dict().items() if not key.startswith("mirror")}
    one.load_state_dict(own)
    other.load_state_dict(rnn.mirror.state_dict())
    output, state = rnn(x, lengths=lengths)
    assert output.shape[-1] == rnn.output_size
    for k, length in enumerate(lengths):
        forward = one(x[:length, k])[0]
        backward = other(x[:length, k].flip(0))[0].flip(0)
        expected = {
            "concat": torch.cat((forward, backward), -1),
            "sum": forward + backward,
            "mean": (forward + backward) / 2,
            "mul": forward * backward,
        }[merge]
        torch.testing.assert_close(output[:length, k], expected, **EXACT)
    with pytest.raises(ValueError, match="cannot be carried on"):
        rnn(x, state)
    given = tree_map(torch.randn_like, rnn.initial_state(2))
    assert not torch.allclose(rnn(x, given)[0], rnn(x)[0])
    assert rnn.explain(x).startswith("forward stack\nlayer")


def test_layer_outputs_are_those_of_each_layer():
    rnn = DeepRNN(3, [4, 5, 6], 3, "gru", "residual", batch_first=True, dtype=torch.double)
    x = torch.randn(2, 7, 3, dtype=torch.double)
    outputs, state = rnn.layer_outputs(x, lengths=[7, 4])
    assert [list(output.shape) for output in outputs] == [[2, 7, 4], [2, 7, 5], [2, 7, 6]]
    for output, entry in zip(outputs, state.layers, strict=True):
        torch.testing.assert_close(torch.stack((output[0, 6], output[1, 3])), entry.h, **EXACT)
    plain = DeepRNN(3, 4, 2, "gru")
    x = torch.randn(7, 2, 3)
    torch.testing.assert_close(plain.layer_outputs(x)[0][-1], plain(x)[0])


def test_residual_starting_at_a_layer_leaves_those_below_plain():
    rnn = DeepRNN(4, 4, 3, "gru", "residual", link_start=2, dtype=torch.double)
    x = torch.randn(5, 2, 4, dtype=torch.double)
    lower = DeepRNN(4, 4, 2, "gru", dtype=torch.double)
    lower.load_state_dict({k: v for k, v in rnn.state_dict().items() if not k.startswith("layers.2")})
    outputs, _ = rnn.layer_outputs(x)
    torch.testing.assert_close(rnn(x)[0], lower(x)[0] + outputs[2], **EXACT)


def test_a_dropout_list_gives_each_layer_its_own_rate():
    rnn = DeepRNN(3, 50, 2, "gru", dropout=[0.0, 0.9])
    output, _ = rnn(torch.randn(20, 2, 3))
    assert 0.8 < (output == 0).float().mean() < 0.97
    assert not (rnn.eval()(torch.randn(20, 2, 3))[0] == 0).any()


def test_locked_dropout_drops_the_same_units_at_every_step():
    rnn = DeepRNN(3, 50, 1, "gru", dropout=[0.5], locked_dropout=True)
    dropped = rnn(torch.randn(20, 4, 3))[0] == 0
    assert (dropped == dropped[0]).all() and 0.3 < dropped.float().mean() < 0.7
    assert not (dropped[0, 0] == dropped[0, 1]).all()


def test_weight_drop_leaves_parameters_and_their_names_as_they_are():
    rnn, plain = DeepRNN(3, 8, 2, "lstm", weight_drop=0.5), DeepRNN(3, 8, 2, "lstm")
    assert rnn.state_dict().keys() == plain.state_dict().keys()
    before = rnn.layers[0].cells[0].weight_hh.detach().clone()
    output, _ = rnn(torch.randn(5, 2, 3))
    output.sum().backward()
    torch.testing.assert_close(rnn.layers[0].cells[0].weight_hh, before, rtol=0, atol=0)
    gradient = rnn.layers[1].cells[0].weight_hh.grad
    assert 0.3 < (gradient == 0).float().mean() < 0.7


def test_zoneout_keeps_old_values_in_training_and_their_expectation_in_evaluation():
    rnn = DeepRNN(3, 2000, 1, "rnn", zoneout=0.3)
    before = (rnn.initial_state(1)[0]._replace(h=torch.full((1, 2000), 7.0)),)
    after = rnn.step(torch.randn(1, 3), before)[1][0].h
    assert 0.25 < (after == 7).float().mean() < 0.35
    rnn.eval()
    x = torch.randn(1, 3)
    plain = DeepRNN(3, 2000, 1, "rnn")
    plain.load_state_dict(rnn.state_dict())
    mixed = 0.3 * before[0].h + 0.7 * plain.step(x, before)[1][0].h
    torch.testing.assert_close(rnn.step(x, before)[1][0].h, mixed)


def test_a_learned_first_state_starts_at_zero_and_gets_a_gradient():
    rnn = DeepRNN(3, 4, 2, "lstm", bidirectional=True, learn_state=True)
    plain = DeepRNN(3, 4, 2, "lstm", bidirectional=True)
    plain.load_state_dict(rnn.state_dict(), strict=False)
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(rnn(x)[0], plain(x)[0])
    rnn(x)[0].sum().backward()
    learned = [parameter for layer in rnn.layers for parameter in layer.first_state]
    assert len(learned) == 2 * 2 * 2 and all(parameter.grad.abs().sum() > 0 for parameter in learned)


def test_recompute_gives_the_same_gradients():
    options = {"zoneout": 0.2, "recurrent_dropout": 0.2, "bidirectional": True, "dtype": torch.double}
    rnn = DeepRNN(3, 4, 2, "gru", recompute=3, **options)
    kept = DeepRNN(3, 4, 2, "gru", **options)
    kept.load_state_dict(rnn.state_dict())
    x = torch.randn(7, 2, 3, dtype=torch.double)
    grads = []
    for one in (rnn, kept):
        torch.manual_seed(1)
        output, _ = one(x, lengths=[7, 4])
        grads.append(torch.autograd.grad(output.square().sum(), list(one.parameters())))
    torch.testing.assert_close(grads[0], grads[1], **EXACT)


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_layers": 1, "cell": "gru"},
        {"num_layers": 6, "cell": "lstm", "link": "highway"},
        {"num_layers": 3, "cell": "rnn", "link": "dense", "bidirectional": True},
        {"num_layers": 4, "cell": "gru", "link": "residual", "bidirectional": "stacks"},
    ],
)
def test_a_parameter_budget_is_met_within_one_percent(arguments):
    bought = fit_width(500_000, input_size=64, **arguments)
    assert bought.error <= 0.01 and bought.parameters == count_parameters(bought.width, input_size=64, **arguments)
    rnn = DeepRNN(64, bought.width, **arguments)
    assert sum(parameter.numel() for parameter in rnn.parameters()) == bought.parameters


def test_a_budget_no_whole_width_meets_is_said():
    bought = fit_width(1_000, input_size=8, num_layers=4, cell="lstm")
    nearest = min(range(1, 20), key=lambda w: abs(count_parameters(w, input_size=8, num_layers=4, cell="lstm") - 1_000))
    assert bought.width == nearest and "the nearest that a whole width allows" in str(bought)
    with pytest.raises(ValueError, match=r"below the .* parameters of a stack of width 1"):
        fit_width(10, input_size=64, num_layers=4, cell="lstm")


def test_identity_initialisation_is_the_irnns():
    cell = DeepRNN(3, 4, cell="rnn", activation="relu", init="identity").layers[0].cells[0]
    torch.testing.assert_close(cell.weight_hh, torch.eye(4))
    assert cell.weight_ih.abs().max() < 0.01 and not cell.bias_ih.any()


def test_chrono_biases_span_the_horizon():
    cell = DeepRNN(3, 500, cell="lstm", init="chrono", horizon=1000).layers[0].cells[0]
    bias = cell.bias_ih + cell.bias_hh
    forget, enter = cell.gate(bias, "f"), cell.gate(bias, "i")
    torch.testing.assert_close(enter, -forget)
    assert forget.min() >= 0 and math.log(800) < forget.max() <= math.log(999)


def test_forget_bias_is_the_sum_of_both_biases():
    cell = DeepRNN(3, 4, cell="lstm", forget_bias=2.5).layers[0].cells[0]
    torch.testing.assert_close(cell.gate(cell.bias_ih + cell.bias_hh, "f"), torch.full((4,), 2.5))


def test_penalties_by_hand():
    output = torch.tensor([[[1.0, 3.0]], [[2.0, 5.0]], [[9.0, 9.0]]])
    assert activation_penalty(output, torch.tensor([2])).item() == pytest.approx((1 + 9 + 4 + 25) / 4)
    assert temporal_penalty(output, torch.tensor([2])).item() == pytest.approx((1 + 4) / 2)
    assert temporal_penalty(output).item() == pytest.approx((1 + 4 + 49 + 16) / 4)
    assert activation_penalty(output, torch.tensor([0])).item() == 0


def test_word_dropout_leaves_evaluation_alone():
    x = torch.ones(3, 2, 4)
    assert drop_words(x, 0.5, training=False) is x


def test_weight_drop_masks_can_be_handed_on_through_truncated_back_propagation():
    rnn = DeepRNN(3, 4, 2, "lstm", weight_drop=0.5)
    noise, state = rnn.draw_noise(2), None
    for _ in range(2):  # each chunk has a graph of its own, over the weights as the last update left them
        output, state = rnn(torch.randn(5, 2, 3), state, noise=noise)
        output.sum().backward()
        state = rnn.detach(state)
    dropped = noise[0].cells[0].weights["weight_hh"] == 0
    assert not rnn.layers[0].cells[0].weight_hh.grad[dropped].any()
    with torch.no_grad():
        for layer in rnn.layers:
            layer.cells[0].weight_hh.zero_()
    plain = DeepRNN(3, 4, 2, "lstm")
    plain.load_state_dict(rnn.state_dict())
    x = torch.randn(5, 2, 3)
    torch.testing.assert_close(rnn(x, noise=noise)[0], plain(x)[0])
    with pytest.raises(ValueError, match="noise was drawn for 1 layers; this stack has 2"):
        rnn(x, noise=noise[:1])


def test_a_subclass_with_equations_of_its_own_is_not_run_as_its_parent():
    class Halved(CELLS["gru"]):
        def step(self, gates, state, noise=NO_NOISE):
            return type(state)(super().step(gates, state, noise).h / 2)

    rnn = DeepRNN(3, 4, cell=Halved)
    x = torch.randn(4, 2, 3)
    found = rnn(x)[0]
    rnn.backend = "loop"
    torch.testing.assert_close(found, rnn(x)[0], rtol=0, atol=0)
    assert "not native: torch.nn has no layer that computes this Halved" in DeepRNN(3, 4, cell=Halved).explain()


def test_a_backend_set_later_reaches_both_whole_stacks():
    rnn = DeepRNN(3, 4, 2, "gru", bidirectional="stacks")
    rnn.backend = "loop"
    assert rnn.explain().count("loop (asked for)") == 4


def test_explaining_a_noisy_stack_draws_nothing_from_the_generator():
    rnn = DeepRNN(3, 4, 2, "gru", recurrent_dropout=0.5)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    rnn.explain()
    torch.testing.assert_close(torch.rand(4), expected, rtol=0, atol=0)


def test_a_budget_finds_the_widths_that_a_cells_options_allow():
    bought = fit_width(20_000, input_size=8, num_layers=2, cell="lstmp", proj_size=4)
    assert bought.error < 0.01 and bought.width > 4


@pytest.mark.parametrize("lengths", [torch.tensor([2.9, 4.5]), torch.tensor([True, False])])
def test_lengths_that_are_no_whole_numbers_are_refused(lengths):
    with pytest.raises(ValueError, match="lengths must be whole numbers"):
        DeepRNN(3, 4)(torch.zeros(5, 2, 3), lengths=lengths)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm": "batch"}, "unknown norm 'batch'; known: layer, none, rms"),
        ({"norm": "rms", "norm_place": "prae"}, r"did you mean pre\?"),
        ({"bidirectional": "stack"}, "bidirectional is False, True or 'stacks', not 'stack'"),
        ({"weight_drop": 1.0}, "weight_drop is a probability"),
        ({"cell": "lstm", "zoneout": (0.1,)}, "zoneout has 1 rates; LSTMCell has 2: h, c"),
    ],
)
def test_wrong_options_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        DeepRNN(3, 4, 2, **arguments)
