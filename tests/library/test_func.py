"""torch.func works on a stack through the loop: mapped over models, samples and noise, differentiated twice."""

import pytest
import torch
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vmap
from torch.utils._pytree import tree_leaves

from deep_rnn import CELLS, DeepRNN

TIME, BATCH, INPUT, HIDDEN = 4, 3, 3, 4
LENGTHS = torch.tensor([4, 0, 2])
EXACT = {"rtol": 0.0, "atol": 1e-12}  # float64
STACKS = {
    "lstm": {"cell": "lstm"},
    "both ways": {"cell": "gru", "bidirectional": True, "link": "highway", "norm": "layer"},
    "mixed": {"cell": ["slstm", "sru"], "link": "dense", "learn_state": True},
}


def stack(num_layers=2, **options):
    return DeepRNN(INPUT, HIDDEN, num_layers, dtype=torch.double, **options)


def draw(*shape):
    torch.manual_seed(0)
    return torch.randn(*shape, dtype=torch.double)


def loss(rnn, parameters, x, lengths=None):
    """A number that all outputs enter."""
    return functional_call(rnn, parameters, (x, None, lengths))[0].square().sum()


@pytest.mark.parametrize("cell", CELLS)
def test_stacked_models_of_every_cell_run_as_one(cell):
    models = [stack(1, cell=cell) for _ in range(3)]
    parameters, buffers = stack_module_state(models)
    x = draw(TIME, BATCH, INPUT)
    found = vmap(lambda p, b: functional_call(models[0], (p, b), (x, None, LENGTHS)))(parameters, buffers)
    for index, model in enumerate(models):
        expected = tree_leaves(model(x, None, LENGTHS))
        torch.testing.assert_close([value[index] for value in tree_leaves(found)], expected, **EXACT)


@pytest.mark.parametrize("name", STACKS)
def test_models_train_side_by_side(name):
    models = [stack(**STACKS[name]) for _ in range(3)]
    parameters, _ = stack_module_state(models)
    x = draw(TIME, BATCH, INPUT)
    found = vmap(grad(lambda p: loss(models[0], p, x, LENGTHS)))(parameters)
    for index, model in enumerate(models):
        model.backend = "loop"
        value, weights = loss(model, {}, x, LENGTHS), list(model.parameters())
        expected = torch.autograd.grad(value, weights, materialize_grads=True)  # of first states that none reads: zero
        torch.testing.assert_close([found[key][index] for key, _ in model.named_parameters()], list(expected), **EXACT)


@pytest.mark.parametrize("name", STACKS)
def test_gradients_of_each_sample(name):
    rnn, x = stack(**STACKS[name]), draw(TIME, BATCH, INPUT)
    parameters = dict(rnn.named_parameters())

    def of_one(parameters, x, length):
        return loss(rnn, parameters, x.unsqueeze(1), length.unsqueeze(0))

    found = vmap(grad(of_one), in_dims=(None, 1, 0))(parameters, x, LENGTHS)
    for sample in range(BATCH):
        expected = grad(of_one)(parameters, x[:, sample], LENGTHS[sample])
        torch.testing.assert_close({key: value[sample] for key, value in found.items()}, expected, **EXACT)


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_mapped_models_draw_the_same_or_different_noise(randomness):
    rnn = stack(cell="gru", dropout=0.5, recurrent_dropout=0.5, weight_drop=0.5, zoneout=0.5)
    parameters, _ = stack_module_state([rnn] * 3)
    x = draw(TIME, BATCH, INPUT)
    outputs = vmap(lambda p: functional_call(rnn, p, (x,))[0], randomness=randomness)(parameters)
    assert torch.allclose(outputs[0], outputs[1], rtol=0, atol=1e-12) == (randomness == "same")


@pytest.mark.parametrize("name", STACKS)
def test_forward_and_backward_derivatives_agree(name):
    rnn, x = stack(1 if name == "lstm" else 2, backend="loop", **STACKS[name]), draw(2, 1, INPUT)
    direction = torch.ones_like(x)

    def outputs(x):
        return rnn(x)[0]

    backward = jacrev(outputs)(x)
    torch.testing.assert_close(jacfwd(outputs)(x), backward, **EXACT)
    expected = (backward * direction).sum((-3, -2, -1))
    torch.testing.assert_close(jvp(outputs, (x,), (direction,))[1], expected, **EXACT)


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_can_be_differentiated_twice(cell):
    torch.manual_seed(0)
    rnn = DeepRNN(2, 2, 1, cell, backend="loop", dtype=torch.double)
    x = draw(2, 1, 2).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: rnn(x)[0], (x,))


def test_second_derivatives_through_two_layers_both_ways():
    torch.manual_seed(0)
    rnn = DeepRNN(2, 2, 2, "gru", link="residual", bidirectional=True, backend="loop", dtype=torch.double)
    x = draw(2, 1, 2)
    curvature = hessian(lambda x: rnn(x)[0].square().sum())(x).reshape(4, 4)
    torch.testing.assert_close(curvature, curvature.T, **EXACT)
    assert torch.autograd.gradgradcheck(lambda x: rnn(x, lengths=[1])[0], (x.requires_grad_(),))


def test_torchs_own_layers_refuse_to_be_mapped():
    rnn = stack(backend="native")
    with pytest.raises(ValueError, match="backend=native cannot run this: torch's layers have no rule for vmap"):
        vmap(lambda x: rnn(x)[0])(draw(2, TIME, BATCH, INPUT))


def test_recompute_is_beyond_torch_func():
    rnn = stack(recompute=2)
    with pytest.raises(RuntimeError, match="don't yet support saved tensor hooks"):
        grad(lambda x: rnn(x)[0].sum())(draw(TIME, BATCH, INPUT))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_forward_mode_needs_no_other_backend_than_the_one_picked(cell):
    torch.manual_seed(0)
    rnn, x = DeepRNN(3, 4, 2, cell), torch.randn(5, 2, 3)  # float32, for which oneDNN has an LSTM
    _, found = jvp(lambda x: rnn(x)[0], (x,), (torch.ones_like(x),))
    rnn.backend = "loop"
    _, expected = jvp(lambda x: rnn(x)[0], (x,), (torch.ones_like(x),))
    torch.testing.assert_close(found, expected)
