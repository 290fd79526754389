"""A cell in the user's own file, reached by its dotted path, composes like any other."""

import pytest
import torch
from cell_cases import OWN_CELL
from own_cell import LeakyIntegrator

from deep_rnn import DeepRNN
from deep_rnn.cells import CELLS, find_cell
from deep_rnn.cells.base import NO_NOISE


def test_a_dotted_path_finds_the_class_and_registers_nothing():
    assert find_cell(OWN_CELL) is LeakyIntegrator is find_cell(LeakyIntegrator)
    assert OWN_CELL not in CELLS


def test_it_takes_links_directions_noise_and_its_own_options():
    torch.manual_seed(0)
    rnn = DeepRNN(
        3, [4, 5], 2, [OWN_CELL, "lstm"], "highway", bidirectional=True, recurrent_dropout=0.2, zoneout=0.1, leak=0.5
    )
    output, _ = rnn(torch.randn(6, 3, 3), lengths=[6, 0, 2])
    output.square().sum().backward()
    assert rnn.layers[0].cell.leak == 0.5
    assert all(parameter.grad.isfinite().all() and parameter.grad.any() for parameter in rnn.parameters())


class Halved:
    """Equations to mix into a cell."""

    def step(self, gates, state, noise=NO_NOISE):
        return type(state)(*(field / 2 for field in super().step(gates, state, noise)))


class HalvedLSTM(Halved, CELLS["lstm"]):
    """Its equations are its own, though its body is empty."""


class DoubledRNN(CELLS["rnn"]):
    """Its recurrent weights are not those that lie in its parameters."""

    def matrix(self, name, noise):
        return 2 * super().matrix(name, noise)


@pytest.mark.parametrize("cell", [HalvedLSTM, DoubledRNN])
def test_equations_of_ones_own_are_never_passed_over_for_a_fused_kernel(cell):
    torch.manual_seed(0)
    rnn, x = DeepRNN(3, 4, 1, cell), torch.randn(5, 2, 3)
    found, _ = rnn(x)
    rnn.backend = "loop"
    torch.testing.assert_close(found, rnn(x)[0])
    plain = DeepRNN(3, 4, 1, {HalvedLSTM: "lstm", DoubledRNN: "rnn"}[cell])
    plain.load_state_dict(rnn.state_dict())
    assert not torch.allclose(found, plain(x)[0])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("own_cell.LeakyIntegratr", "cell 'own_cell.LeakyIntegratr' cannot be imported: "),
        ("no_such_module.Cell", "cell 'no_such_module.Cell' cannot be imported: No module named 'no_such_module'"),
        ("own_cell.torch", "cell 'own_cell.torch' is no subclass of deep_rnn.cells.Cell"),
        ("lstmm", r"unknown cell 'lstmm' \(did you mean lstm\?\)"),
    ],
)
def test_a_path_that_leads_nowhere_says_so(path, message):
    with pytest.raises(ValueError, match=message):
        DeepRNN(3, 4, 1, path)
