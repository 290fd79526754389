"""A cell in the user's own file, reached by its dotted path, composes like any other."""

import pytest
import torch
from cell_cases import OWN_CELL
from own_cell import LeakyIntegrator

from src.models import DeepRNN
from src.models.cells import CELLS, find_cell


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


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("own_cell.LeakyIntegratr", "cell 'own_cell.LeakyIntegratr' cannot be imported: "),
        ("no_such_module.Cell", "cell 'no_such_module.Cell' cannot be imported: No module named 'no_such_module'"),
        ("own_cell.torch", "cell 'own_cell.torch' is no subclass of src.models.cells.Cell"),
        ("lstmm", r"unknown cell 'lstmm' \(did you mean lstm\?\)"),
    ],
)
def test_a_path_that_leads_nowhere_says_so(path, message):
    with pytest.raises(ValueError, match=message):
        DeepRNN(3, 4, 1, path)
