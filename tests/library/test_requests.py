"""What people ask of a stack as of torch.nn: dropout set later, other dtypes, tracing, weights made from others."""

import io
import re
import warnings

import numpy as np
import pytest
import torch
from helpers import BACKENDS
from torch import nn
from torch.nn.utils import parametrizations, prune

from deep_rnn import CELLS, DeepRNN
from deep_rnn.interop.export import export_program

EXACT = {"rtol": 0.0, "atol": 1e-12}
KINDS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


# --- dropout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bidirectional", [False, True, "stacks"])
def test_dropout_can_be_set_at_any_time(bidirectional):
    rnn, x = DeepRNN(3, 40, 2, "gru", bidirectional=bidirectional), torch.randn(5, 2, 3)
    plain = rnn(x)[0]
    rnn.dropout = 0.5
    assert rnn.dropout == 0.5 and not torch.equal(rnn(x)[0], rnn(x)[0])
    torch.testing.assert_close(rnn.eval()(x)[0], plain)
    rnn.train().dropout = [0.0, 0.7]
    assert (rnn.dropout == [0.0, 0.7] and (rnn(x)[0] == 0).float().mean() > 0.3) or bidirectional == "stacks"
    rnn.dropout = 0
    torch.testing.assert_close(rnn(x)[0], plain)
    with pytest.raises(ValueError, match=re.escape("dropout is a probability from 0 to 1, not 1.5")):
        rnn.dropout = 1.5
    rnn.layers[0].rates = rnn.layers[0].rates._replace(dropout=0.5)
    assert not torch.equal(rnn(x)[0], rnn(x)[0])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("locked", [False, True])
def test_dropout_of_one_drops_all_as_in_torch(locked, backend):
    theirs = nn.GRU(3, 4, 2, dropout=1.0).double()
    if backend == "fused":
        backend = "auto"
    rnn = DeepRNN.from_torch(theirs, backend=backend, locked_dropout=locked)
    x = torch.randn(5, 2, 3, dtype=torch.double)
    torch.testing.assert_close(rnn(x)[0], theirs(x)[0], **EXACT)


# --- x ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["auto", *BACKENDS])
def test_x_of_another_dtype_is_refused_by_every_backend(backend):
    rnn = DeepRNN(3, 4, 2, "lstm", backend=backend)
    for dtype in (torch.float64, torch.bfloat16, torch.int64, torch.complex64, torch.bool):
        with pytest.raises(ValueError, match=f"x must be torch.float32 as the weights are, not {dtype}"):
            rnn(torch.ones(5, 2, 3).to(dtype))
    with torch.autocast("cpu"):
        assert rnn(torch.ones(5, 2, 3).bfloat16())[0].isfinite().all()
        with pytest.raises(ValueError, match=r"not torch\.complex64"):
            rnn(torch.ones(5, 2, 3).to(torch.complex64))


# --- flags ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["batch_first", "bias"])
def test_flags_are_true_or_false(name):
    for value in (False, True, 0, 1, np.False_, np.True_):
        assert getattr(DeepRNN(3, 4, 1, "gru", **{name: value}), "arguments")  # noqa: B009
    for value in ("False", "yes", 2, None, [True]):
        with pytest.raises(ValueError, match=re.escape(f"{name} is True or False, not {value!r}")):
            DeepRNN(3, 4, 1, "gru", **{name: value})


# --- tracing ----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "mgu"])
def test_traced_by_jit_it_computes_the_same(cell):
    rnn, x = DeepRNN(3, 4, 2, cell, bidirectional=True).eval(), torch.randn(5, 2, 3)

    class Output(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = rnn

        def forward(self, x):
            return self.rnn(x)[0]

    rnn(x)  # a remembered choice must not stand in the way
    traced = torch.jit.trace(Output(), x)
    other = torch.randn(5, 2, 3)
    torch.testing.assert_close(traced(other), rnn(other)[0])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("cell", ["lstm", "gru", "mgu"])
def test_the_old_onnx_exporter_takes_it(cell):
    onnxruntime = pytest.importorskip("onnxruntime")
    rnn, x = DeepRNN(3, 4, 2, cell).eval(), torch.randn(5, 2, 3)

    class Output(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = rnn

        def forward(self, x):
            return self.rnn(x)[0]

    file = io.BytesIO()
    torch.onnx.export(Output(), (x,), file, dynamo=False, input_names=["x"])
    (found,) = onnxruntime.InferenceSession(file.getvalue()).run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), rnn(x)[0], rtol=1e-5, atol=1e-6)


# --- weights made from others -----------------------------------------------------------------------------------------


def pruned(module, name):
    prune.l1_unstructured(module, name, 0.5)
    with torch.no_grad():
        getattr(module, f"{name}_orig").mul_(1.5)  # since when the masked weight is behind


def old_weight_norm(module, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.weight_norm(module, name)
    with torch.no_grad():
        getattr(module, f"{name}_g").mul_(1.5)


REPARAMETRISED = {
    "pruned": pruned,
    "weight_norm": parametrizations.weight_norm,
    "old weight_norm": old_weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
}


@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("how", REPARAMETRISED)
def test_from_torch_takes_the_weights_that_are_used_and_warns(how, cell):
    theirs = KINDS[cell](3, 4, 2).double().eval()
    REPARAMETRISED[how](theirs, "weight_hh_l0")
    x = torch.randn(5, 2, 3, dtype=torch.double)
    with pytest.warns(UserWarning, match="as they are used; what makes them"):
        rnn = DeepRNN.from_torch(theirs)
    torch.testing.assert_close(rnn(x)[0], theirs(x)[0], **EXACT)
    assert all(parameter.requires_grad for parameter in rnn.parameters())


@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("how", REPARAMETRISED)
def test_torch_keras_and_export_get_the_weights_that_are_used(how, cell):
    rnn = DeepRNN(3, 4, 2, cell, dtype=torch.double).eval()
    x = torch.randn(5, 2, 3, dtype=torch.double)
    REPARAMETRISED[how](rnn.layers[0].cell, "weight_hh")
    with pytest.warns(UserWarning, match="as they are used; what makes them"):
        theirs = rnn.to_torch()
    with pytest.warns(UserWarning, match="as they are used; what makes them"):
        arrays = rnn.to_keras()
    expected = theirs(x)[0]
    own = DeepRNN.from_torch(theirs)
    torch.testing.assert_close(own(x)[0], expected, **EXACT)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, own.to_keras(), strict=True))
    torch.testing.assert_close(rnn(x)[0], expected, **EXACT)
    torch.testing.assert_close(export_program(rnn).module()(x=x)[0], expected, **EXACT)


@pytest.mark.parametrize("how", REPARAMETRISED)
@pytest.mark.parametrize(("cell", "depth"), [("rnn", 1), ("lstm", 1), ("gru", 1), ("rnn", 2)])
def test_weight_drop_drops_weights_made_from_others(cell, depth, how):
    rnn = DeepRNN(3, 4, 1, cell, weight_drop=0.5, transition_depth=depth)
    names = rnn.layers[0].cell.recurrent_weights
    for name in names:
        REPARAMETRISED[how](rnn.layers[0].cell, name)
    assert set(rnn.layers[0].cell.recurrent_weights) == set(names)
    noise = rnn.draw_noise(2)
    assert set(noise[0].cells[0].weights) == set(names)
    x = torch.randn(5, 2, 3)
    assert not torch.equal(rnn(x)[0], rnn(x)[0])


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_matrices_are_those_that_the_cell_declares(cell):
    made = CELLS[cell](3, 4)
    named = {key for key, value in made.named_parameters() if key.startswith("weight_hh") and value.dim() == 2}
    assert set(made.recurrent_weights) == named


# --- state_dict -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("cell", KINDS)
def test_torchs_state_dict_loads_into_a_stack_of_its_shape(cell, bidirectional):
    theirs = KINDS[cell](3, 4, 2, bidirectional=bidirectional).double()
    rnn, x = (
        DeepRNN(3, 4, 2, cell, bidirectional=bidirectional, dtype=torch.double),
        torch.randn(5, 2, 3, dtype=torch.double),
    )
    rnn.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(rnn(x)[0], theirs(x)[0], **EXACT)
    inner = nn.Sequential(DeepRNN(3, 4, 2, cell, bidirectional=bidirectional, dtype=torch.double))
    inner.load_state_dict(nn.Sequential(theirs).state_dict())
    torch.testing.assert_close(inner[0](x)[0], theirs(x)[0], **EXACT)
    assert not any(key.startswith("layers") for key in theirs.state_dict())


def test_a_state_dict_of_another_shape_is_refused_by_the_names_in_the_way():
    with pytest.raises(RuntimeError, match=r"Unexpected key\(s\) in state_dict: .*weight_ih_l1"):
        DeepRNN(3, 4, 1).load_state_dict(nn.LSTM(3, 4, 2).state_dict())
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: .*layers\.1\.cells\.0\.weight_ih"):
        DeepRNN(3, 4, 2).load_state_dict(nn.LSTM(3, 4, 1).state_dict())
    with pytest.raises(RuntimeError, match=r"size mismatch for layers\.0\.cells\.0\.weight_ih"):
        DeepRNN(3, 4, 1, "gru").load_state_dict(nn.LSTM(3, 4, 1).state_dict())
