"""Weights go in from torch.nn and Keras and out again, and compute there what they compute here."""

import itertools
import re

import keras_formulas as keras
import numpy as np
import pytest
import torch
from torch import nn

from deep_rnn import DeepRNN

TIME, BATCH, INPUT = 6, 3, 3
EXACT = {"rtol": 0.0, "atol": 1e-12}  # float64: only the order of additions differs

MODULES = {
    "rnn": (nn.RNN, {}),
    "rnn_relu": (nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, {}),
    "lstm_proj": (nn.LSTM, {"proj_size": 2}),
    "gru": (nn.GRU, {}),
}


def torch_module(name, **options):
    torch.manual_seed(0)
    cls, own = MODULES[name]
    return cls(INPUT, 5, dtype=torch.double, **own, **options)


# --- torch.nn ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["loop", "auto"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("name", MODULES)
def test_a_stack_from_torch_computes_the_same_and_goes_back(name, layers, bidirectional, bias, backend):
    theirs = torch_module(name, num_layers=layers, bidirectional=bidirectional, bias=bias)
    ours = DeepRNN.from_torch(theirs, backend=backend)
    x = torch.randn(TIME, BATCH, INPUT, dtype=torch.double)
    expected, expected_state = theirs(x)
    output, state = ours(x)
    torch.testing.assert_close(output, expected, **EXACT)
    if layers == 1 or name != "lstm_proj":  # one tensor cannot hold h and c of different widths
        torch.testing.assert_close(ours.state_to_torch(state), expected_state, **EXACT)

    back = ours.to_torch()
    assert str(back) == str(theirs)
    assert back.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.equal(back.state_dict()[key], value) for key, value in theirs.state_dict().items())


def test_every_option_of_torch_survives_the_round_trip():
    theirs = nn.GRU(INPUT, 4, 3, bias=False, batch_first=True, dropout=0.25, bidirectional=True, dtype=torch.double)
    theirs.eval()
    theirs.weight_hh_l1.requires_grad_(False)
    ours = DeepRNN.from_torch(theirs)
    assert ours.batch_first and not ours.training and [layer.rates.dropout for layer in ours.layers] == [0.25, 0.25, 0]
    assert not ours.layers[1].cells[0].weight_hh.requires_grad and ours.layers[1].cells[1].weight_hh.requires_grad
    back = ours.to_torch()
    assert str(back) == str(theirs) and not back.training
    assert [p.requires_grad for p in back.parameters()] == [p.requires_grad for p in theirs.parameters()]
    assert {parameter.dtype for parameter in back.parameters()} == {torch.double}


def test_the_device_of_a_module_is_kept():
    ours = DeepRNN.from_torch(nn.LSTM(INPUT, 4, device="meta"))
    assert {parameter.device.type for parameter in ours.parameters()} == {"meta"}
    assert ours.to_torch().weight_ih_l0.device.type == "meta"


def test_weights_are_copied_not_shared():
    theirs = torch_module("gru")
    ours = DeepRNN.from_torch(theirs)
    before = theirs.weight_hh_l0.clone()
    with torch.no_grad():
        ours.layers[0].cells[0].weight_hh.zero_()
    assert torch.equal(theirs.weight_hh_l0, before)


@pytest.mark.parametrize(
    "options, obstacle",
    [
        ({"cell": "mgu"}, "no layer of torch.nn computes this MGUCell"),
        ({"cell": "gru", "reset_after": False}, "no layer of torch.nn computes this GRUCell"),
        ({"cell": "rnn", "activation": "gelu"}, "no layer of torch.nn computes this RNNCell"),
        ({"hidden_size": [4, 5]}, "its layers differ in cell, width or bias"),
        ({"cell": ["lstm", "gru"]}, "its layers differ in cell, width or bias"),
        ({"link": "residual"}, "link=residual"),
        ({"norm": "rms"}, "norm=rms"),
        ({"bidirectional": True, "merge": "sum"}, "merge=sum"),
        ({"bidirectional": "stacks"}, "bidirectional='stacks'"),
        ({"dropout": [0.1, 0.2]}, "dropout=[0.1, 0.2] is not one rate between the layers"),
        ({"dropout": 0.1, "locked_dropout": True}, "locked_dropout"),
        ({"zoneout": 0.1}, "noise inside the cells"),
        ({"weight_drop": 0.1}, "noise inside the cells"),
        ({"learn_state": True}, "learn_state"),
    ],
)
def test_what_torch_has_no_form_for_is_named(options, obstacle):
    rnn = DeepRNN(INPUT, **{"hidden_size": 4, "num_layers": 2, **options})
    with pytest.raises(ValueError, match=r"torch\.nn has no form for this stack: .*" + re.escape(obstacle)):
        rnn.to_torch()


def test_from_torch_refuses_what_is_no_recurrent_module():
    with pytest.raises(TypeError, match="a torch\\.nn\\.RNN, LSTM or GRU, not Linear"):
        DeepRNN.from_torch(nn.Linear(3, 4))


# --- Keras ------------------------------------------------------------------------------------------------------------

RECIPES = [
    (cell, reset_after, bias, bidirectional, merge)
    for cell, reset_after, bias, bidirectional, merge in itertools.product(
        keras.GATES, [True, False], [True, False], [False, True], keras.MERGES
    )
    if (cell == "gru" or reset_after) and (bidirectional or merge == "concat")
]


@pytest.mark.parametrize("cell, reset_after, bias, bidirectional, merge", RECIPES)
def test_keras_arrays_compute_here_what_keras_computes(cell, reset_after, bias, bidirectional, merge):
    rng = np.random.default_rng(0)
    weights = keras.draw(rng, cell, INPUT, (5, 4), bidirectional, merge, bias, reset_after)
    x = rng.normal(size=(BATCH, TIME, INPUT))
    option = {"reset_after": reset_after} if cell == "gru" else {}
    expected = keras.run(x, weights, cell, bidirectional, merge, bias, **option)

    rnn = DeepRNN.from_keras(weights, cell, bidirectional, merge, reset_after, bias=bias, batch_first=True)
    assert [layer.cell.hidden_size for layer in rnn.layers] == [5, 4] and rnn.input_size == INPUT
    output, _ = rnn(torch.from_numpy(x))
    np.testing.assert_allclose(output.detach().numpy(), expected, rtol=0, atol=1e-12)

    back = rnn.to_keras()
    assert len(back) == len(weights)
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(back, weights, strict=True))


GOLDEN = {  # outputs [3, 2] at weights that anyone can write down; Keras 3.15.1 gives the same to 1e-8
    ("rnn", True): [-0.879826699652, -0.761594155956, -0.527901506672, -0.183001706486, 0.248840652975, 0.257987077736],
    ("lstm", True): [0.047244254682, 0.036019220995, 0.046345607294, 0.038803513846, 0.077244907044, 0.159044043963],
    ("gru", True): [0.348859167704, 0.605263318634, 0.341902491331, 0.852030582297, 0.291521974406, 0.434142914743],
    ("gru", False): [0.400672100563, 0.458492339390, 0.371275074216, 0.808689324289, 0.271196800267, 0.414667746884],
}


@pytest.mark.parametrize("cell, reset_after", GOLDEN)
def test_keras_golden_outputs(cell, reset_after):
    rows = keras.GATES[cell] * 2
    shapes = [(2, rows), (2, rows), (2, rows) if cell == "gru" and reset_after else (rows,)]
    weights = [(np.arange(np.prod(shape)).reshape(shape) % 7 - 3) / 4 for shape in shapes]
    x = torch.tensor([[1.0, -0.5], [0.25, 2.0], [-1.0, 0.75]], dtype=torch.double)
    output, _ = DeepRNN.from_keras(weights, cell, reset_after=reset_after)(x)
    np.testing.assert_allclose(output.detach().numpy().ravel(), GOLDEN[cell, reset_after], rtol=0, atol=1e-11)


def test_keras_layers_of_different_cells_stack():
    rng = np.random.default_rng(0)
    lower, upper = keras.draw(rng, "lstm", INPUT, (5,)), keras.draw(rng, "gru", 5, (4,))
    x = rng.normal(size=(BATCH, TIME, INPUT))
    expected = keras.run(keras.run(x, lower, "lstm"), upper, "gru")
    rnn = DeepRNN.from_keras(lower + upper, ["lstm", "gru"], batch_first=True)
    np.testing.assert_allclose(rnn(torch.from_numpy(x))[0].detach().numpy(), expected, rtol=0, atol=1e-12)


def test_arguments_pass_through_and_the_arrays_set_the_dtype():
    weights = [array.astype("float32") for array in keras.draw(np.random.default_rng(0), "rnn", INPUT, (4,))]
    rnn = DeepRNN.from_keras(weights, "rnn", activation="relu", recurrent_dropout=0.1)
    assert rnn.layers[0].cell.activation == "relu" and rnn.layers[0].rates.recurrent == 0.1
    assert {parameter.dtype for parameter in rnn.parameters()} == {torch.float32}
    assert {array.dtype for array in rnn.to_keras()} == {np.dtype("float32")}


def test_zoneout_which_evaluation_feels_goes_to_no_other_library():
    rnn = DeepRNN(INPUT, 4, cell="lstm", zoneout=0.5)
    for leave in (rnn.to_keras, rnn.to_torch):
        with pytest.raises(ValueError, match="zoneout"):
            leave()


def test_a_trained_stack_goes_to_keras_with_its_two_biases_summed():
    torch.manual_seed(0)
    rnn = DeepRNN(INPUT, [5, 4], 2, "lstm", bidirectional=True, merge="mean", batch_first=True, dtype=torch.double)
    x = torch.randn(BATCH, TIME, INPUT, dtype=torch.double)
    expected = keras.run(x.numpy(), rnn.to_keras(), "lstm", True, "ave")
    np.testing.assert_allclose(rnn(x)[0].detach().numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "change, arguments, message",
    [
        (lambda w: w[:-1], {}, r"each layer has 3 arrays \(kernel, recurrent_kernel, bias\), which 5 arrays do not"),
        (lambda w: [], {}, "which 0 arrays do not"),
        (lambda w: w, {"bidirectional": True, "bias": False}, r"each layer has 4 arrays \(2 directions x kernel, rec"),
        (
            lambda w: [*w[:3], w[3][:-1], *w[4:]],
            {},
            r"weights\[3\], the kernel of layer 1 \(gru\), must have shape \[4, 12\], not \[3, 12\]",
        ),
        (lambda w: w, {"cell": "lstm"}, r"weights\[0\], the kernel of layer 0 \(lstm\), must have shape \[3, 16\]"),
        (lambda w: w, {"reset_after": False}, r"the bias of layer 0 .* \[12\].* \(is reset_after right\?\)"),
        (lambda w: w[::-1], {}, r"weights\[2\], the bias of layer 0 .* must have shape \[2, 12\], not \[4, 12\]"),
        (lambda w: [w[2][0], *w[1:]], {}, r"weights\[0\], the kernel .* must have shape \[\?, 12\], not \[12\]"),
        (lambda w: [w[0], w[2][0], *w[2:]], {}, r"weights\[0\], the kernel .* must have shape \[3, \?\], not"),
        (lambda w: w, {"cell": "mgu"}, "unknown Keras cell 'mgu'"),
        (lambda w: w, {"merge": "maximum"}, "unknown merge 'maximum'"),
    ],
)
def test_arrays_that_do_not_fit_are_named(change, arguments, message):
    weights = keras.draw(np.random.default_rng(0), "gru", INPUT, (4, 4))
    with pytest.raises(ValueError, match=message):
        DeepRNN.from_keras(change(weights), **{"cell": "gru", **arguments})


@pytest.mark.parametrize(
    "options, obstacle",
    [
        ({"cell": "lstmp"}, "no layer of Keras computes this ProjectedLSTMCell"),
        ({"cell": "gru", "layer_norm": True}, "no layer of Keras computes this GRUCell"),
        ({"link": "highway"}, "link=highway"),
        ({"norm": "layer"}, "norm=layer"),
        ({"learn_state": True}, "learn_state"),
        ({"bidirectional": "stacks"}, "bidirectional='stacks'"),
    ],
)
def test_what_keras_has_no_form_for_is_named(options, obstacle):
    with pytest.raises(ValueError, match=f"Keras has no form for this stack: .*{re.escape(obstacle)}"):
        DeepRNN(INPUT, 4, 2, **options).to_keras()
