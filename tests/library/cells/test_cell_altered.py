"""Whatever is altered about a cell, no kernel stands in for equations that it does not know."""

import pytest
import torch
from torch import nn

from deep_rnn import CELLS, DeepRNN
from deep_rnn.cells import NO_NOISE
from deep_rnn.cells.norm import GateNorm

LSTM, GRU, RNN = CELLS["lstm"], CELLS["gru"], CELLS["rnn"]


class OtherGroups(GRU):
    norm_groups = (3,)


class ScaledWeights(LSTM):
    @property
    def scale(self):
        return 2.0

    def matrix(self, name, noise):
        return self.scale * super().matrix(name, noise)


class OtherNorms(LSTM):
    def __init__(self, *sizes, layer_norm=True, **options):
        super().__init__(*sizes, layer_norm=layer_norm, **options)
        self.norms[0] = nn.RMSNorm(self.hidden_size)


class NoBias(LSTM):
    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.bias_ih = None
        self.bias_hh = None


SUBCLASSES = {
    "groups of the norm": (OtherGroups, {"layer_norm": True}),
    "weights": (ScaledWeights, {}),
    "norms in the constructor": (OtherNorms, {"layer_norm": True}),
    "biases in the constructor": (NoBias, {}),
}


def step_of(cell):
    own = type(cell).step

    def step(gates, state, noise=NO_NOISE):
        return type(state)(*(field / 2 for field in own(cell, gates, state, noise)))

    return step


def grow(module, scale=0.5):
    """A hook that changes what a norm gives."""
    module.register_forward_hook(lambda _, __, output: scale * output)


EDITS = {
    "step": ("gru", {}, lambda cell: setattr(cell, "step", step_of(cell))),
    "project": ("mgu", {}, lambda cell: setattr(cell, "project", lambda x: 2 * type(cell).project(cell, x))),
    "output": ("rnn", {}, lambda cell: setattr(cell, "output", lambda state: 2 * state.h)),
    "activation": ("rnn", {}, lambda cell: setattr(cell, "activation", "relu")),
    "activation none fuses": ("rnn", {}, lambda cell: setattr(cell, "activation", "softsign")),
    "constant": ("janet", {}, lambda cell: setattr(cell, "beta", 0.1)),
    "form": ("gru", {}, lambda cell: setattr(cell, "reset_after", False)),
    "transitions": ("gru", {"transition_depth": 2}, lambda cell: setattr(cell, "transition_depth", 1)),
    "flag of the norm": ("lstm", {}, lambda cell: setattr(cell, "layer_norm", True)),
    "eps": ("lstm", {"layer_norm": True}, lambda cell: setattr(cell.norms[0], "eps", 0.5)),
    "kind": ("lstm", {"layer_norm": True}, lambda cell: cell.norms.__setitem__(0, nn.RMSNorm(4))),
    "kind, of none": ("lstm", {}, lambda cell: cell.norms.__setitem__(0, nn.LayerNorm(4))),
    "norm of a product": ("gru", {"layer_norm": True}, lambda cell: setattr(cell, "norm_ih", GateNorm(4, (3,)))),
    "norm taken off": ("lstm", {"layer_norm": True}, lambda cell: setattr(cell, "norm_hh", None)),
    "sizes of a norm": ("gru", {"layer_norm": True}, lambda cell: setattr(cell.norm_hh, "sizes", [12])),
    "norm put on": ("gru", {}, lambda cell: setattr(cell, "norm_ih", GateNorm(4, (2, 1)))),
    "norm put on, of others": ("mgu", {}, lambda cell: setattr(cell, "norm_ih", GateNorm(4, (2,)))),
    "forward of a norm": ("ligru", {}, lambda cell: setattr(cell.norm_ih, "forward", lambda x, rows=None: 2 * x)),
    "hook of a norm": ("rnn", {"layer_norm": True}, lambda cell: grow(cell.norms[0])),
    "bias": ("lstm", {}, lambda cell: (setattr(cell, "bias_ih", None), setattr(cell, "bias_hh", None))),
    "flag of the bias": ("lstm", {}, lambda cell: setattr(cell, "bias", False)),
}


def check(rnn, x):
    """Equal to the loop, by auto and by all that can be asked for."""
    rnn.backend = "loop"
    expected = rnn(x)[0]
    for backend in ("auto", "fused", "native", "eager"):
        rnn.backend = backend
        try:
            found = rnn(x)[0]
        except ValueError:
            assert backend != "auto"
            continue
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    rnn.backend = "auto"
    return expected


@pytest.mark.parametrize("name", SUBCLASSES)
def test_subclasses_that_differ_in_anything_equal_the_loop(name):
    torch.manual_seed(0)
    cell, options = SUBCLASSES[name]
    check(DeepRNN(3, 4, 2, cell, **options), torch.randn(5, 2, 3))


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("layer", [0, 1])
def test_instances_edited_after_a_call_equal_the_loop(name, layer):
    torch.manual_seed(0)
    kind, options, edit = EDITS[name]
    rnn, x = DeepRNN(3, 4, 2, kind, **options), torch.randn(5, 2, 3)
    before = check(rnn, x)
    edit(rnn.layers[layer].cell)
    after = check(rnn, x)
    if name not in ("flag of the norm", "flag of the bias"):
        assert not torch.allclose(before, after)


def test_a_step_that_is_put_back_runs_fused_again():
    rnn, x = DeepRNN(3, 4, 1, "gru"), torch.randn(5, 2, 3)
    expected, line = rnn(x)[0], rnn.explain(x)
    cell = rnn.layers[0].cell
    cell.step = step_of(cell)
    assert "step of this GRUCell was replaced" in rnn.explain(x)
    rnn(x)
    del cell.step
    torch.testing.assert_close(rnn(x)[0], expected)
    assert rnn.explain(x) == line


class Renamed(GRU):
    """Nothing of its own but words, and how it starts."""

    def __init__(self, *sizes, **options):
        super().__init__(*sizes, **options)
        self.note = "mine"

    def settle(self):
        nn.init.zeros_(self.bias_hh)


def test_a_subclass_that_only_starts_otherwise_keeps_its_kernels():
    cell = DeepRNN(3, 4, 1, Renamed).layers[0].cell
    assert (cell.fused_mode, cell.native_mode, cell.altered) == ("gru", "GRU", None)


@pytest.mark.parametrize("cell", CELLS)
def test_cells_as_they_are_made_are_not_altered(cell):
    for options in ({}, {"layer_norm": True}, {"transition_depth": 2}, {"bias": False}):
        try:
            rnn = DeepRNN(3, 4, 1, cell, bidirectional=True, **options)
        except TypeError:
            continue
        assert [one.altered for one in rnn.layers[0].cells] == [None, None]


def test_training_and_evaluation_do_not_forget_the_choice():
    rnn, x = DeepRNN(3, 4, 2, "lstm"), torch.zeros(5, 2, 3)
    for _ in range(4):
        rnn.train()(x)
        rnn.eval()(x)
    assert len(rnn.choices) == 2


def test_an_edited_stack_has_no_form_in_torch_and_keras():
    rnn = DeepRNN(3, 4, 1, "gru")
    rnn.layers[0].cell.step = step_of(rnn.layers[0].cell)
    with pytest.raises(ValueError, match="step of this GRUCell was replaced"):
        rnn.to_torch()
    with pytest.raises(ValueError, match="no layer of Keras computes this GRUCell"):
        rnn.to_keras()
