"""Every cell computes its paper's equations, and differentiates them."""

import numpy as np
import pytest
import torch
from cell_cases import CASES, PLAIN, Case, batch, warm_state
from cell_references import REFERENCES

from deep_rnn.cells import CELLS

EXACT = {"rtol": 0.0, "atol": 1e-12}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def shaken(rnn):
    """The stack with every parameter away from the special values that initialisers like (gains of 1, biases of 0)."""
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return rnn


def by_reference(case: Case, rnn, x):
    """The reference's outputs over x [T, B, I] from the zero state."""
    p = {name: value.detach().numpy() for name, value in rnn.layers[0].cell.named_parameters()}
    sizes = rnn.layers[0].cell.state_sizes
    state = tuple(np.zeros((x.shape[1], size)) for size in sizes)
    state = state[:2] if case.cell == "fo_pool" else state  # the reference remembers inputs, the cell their products
    outputs = []
    for x_t in x.numpy():
        state = REFERENCES[case.cell](p, x_t, state, **case.options)
        outputs.append(state[0])
    return np.stack(outputs)


def test_every_registered_cell_has_a_reference():
    missing = CELLS.keys() - REFERENCES.keys()
    assert not missing, f"write the equations of {missing} in cell_references.py"


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_equations_are_those_of_the_paper(case, bias):
    rnn, x = shaken(case.build(bias=bias, backend="loop")), batch()
    np.testing.assert_allclose(rnn(x)[0].detach().numpy(), by_reference(case, rnn, x), **EXACT)


def test_sru_passes_its_input_on_where_the_widths_agree():
    rnn, x = shaken(Case("sru", {}).build(3)), batch()
    np.testing.assert_allclose(rnn(x)[0].detach().numpy(), by_reference(Case("sru", {}), rnn, x), **EXACT)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradients_are_those_of_the_equations(case):
    rnn = shaken(case.build(2, backend="loop"))
    names, parameters = zip(*rnn.named_parameters(), strict=True)
    (state,) = warm_state(rnn, 2)

    def run(x, *values):
        fields, weights = values[: len(state)], values[len(state) :]
        return torch.func.functional_call(rnn, dict(zip(names, weights, strict=True)), (x, (type(state)(*fields),)))[0]

    inputs = [batch(3, 2), *state, *parameters]
    assert torch.autograd.gradcheck(run, [value.detach().clone().requires_grad_() for value in inputs])


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_second_derivatives_are_right(case):
    rnn = shaken(case.build(2, backend="loop"))
    state = warm_state(rnn, 1)
    assert torch.autograd.gradgradcheck(lambda x: rnn(x, state)[0], batch(2, 1).requires_grad_())
