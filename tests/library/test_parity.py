"""DeepRNN computes what torch.nn.RNN, LSTM and GRU compute: outputs, states and every gradient, in float64."""

import itertools

import pytest
import torch
from helpers import BACKENDS
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils._pytree import tree_leaves

from deep_rnn import DeepRNN

TIME, BATCH, INPUT, HIDDEN = 6, 5, 3, 4
LENGTHS = torch.tensor([4, 6, 1, 3, 6])
TOLERANCE = {"rtol": 0.0, "atol": 1e-10}  # float64: only the order of additions differs

MODULES = {
    "rnn": (nn.RNN, {}, {}),
    "rnn_relu": (nn.RNN, {"nonlinearity": "relu"}, {"activation": "relu"}),
    "lstm": (nn.LSTM, {}, {}),
    "gru": (nn.GRU, {}, {}),
}


def twins(name, layers, bidirectional, batch_first, backend, bias=True):
    """A torch.nn module and a DeepRNN with the same weights, in float64."""
    torch.manual_seed(0)
    cls, torch_options, options = MODULES[name]
    common = {"bidirectional": bidirectional, "batch_first": batch_first, "bias": bias, "dtype": torch.double}
    theirs = cls(INPUT, HIDDEN, num_layers=layers, **common, **torch_options)
    ours = DeepRNN(INPUT, HIDDEN, layers, name.removesuffix("_relu"), backend=backend, **common, **options)
    with torch.no_grad():
        for layer, direction in itertools.product(range(layers), range(1 + bidirectional)):
            cell = ours.layers[layer].cells[direction]
            for key, parameter in cell.named_parameters():
                parameter.copy_(getattr(theirs, f"{key}_l{layer}{'_reverse' * direction}"))
    return theirs, ours


def torch_run(theirs, x, state, lengths):
    """torch.nn's outputs and states; variable lengths by packing, its only way."""
    if lengths is None:
        return theirs(x, state)
    packed = pack_padded_sequence(x, lengths, theirs.batch_first, enforce_sorted=False)
    output, ended = theirs(packed, state)
    return pad_packed_sequence(output, theirs.batch_first, total_length=TIME)[0], ended


def gradients(output, ended, leaves):
    """Gradients of a loss that every output and state enters with a weight of its own."""
    tensors = [output, *tree_leaves(ended)]
    weights = [torch.linspace(-1, 2, tensor.numel(), dtype=torch.double).view_as(tensor) for tensor in tensors]
    loss = sum((tensor * weight).sum() for tensor, weight in zip(tensors, weights, strict=True))
    return torch.autograd.grad(loss, leaves)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("given_state", [False, True], ids=["zero_state", "given_state"])
@pytest.mark.parametrize("batch_first", [False, True], ids=["time_first", "batch_first"])
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one_way", "two_ways"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("name", MODULES)
def test_equals_torch_nn(name, layers, bidirectional, batch_first, given_state, lengths, backend):
    theirs, ours = twins(name, layers, bidirectional, batch_first, backend)
    x = torch.randn(TIME, BATCH, INPUT, dtype=torch.double)
    x = (x.transpose(0, 1).contiguous() if batch_first else x).requires_grad_()
    fields = 2 if name == "lstm" else 1
    shape = (layers * (1 + bidirectional), BATCH, HIDDEN)
    given = [torch.randn(shape, dtype=torch.double, requires_grad=True) for _ in range(fields)] if given_state else []
    state = (tuple(given) if fields == 2 else given[0]) if given_state else None

    expected, expected_state = torch_run(theirs, x, state, lengths)
    output, ended = ours(x, None if state is None else ours.state_from_torch(state), lengths)

    torch.testing.assert_close(output, expected, **TOLERANCE)
    found_state = ours.state_to_torch(ended)
    torch.testing.assert_close(found_state, expected_state, **TOLERANCE)
    wanted = gradients(expected, expected_state, [x, *given, *theirs.parameters()])
    found = gradients(output, found_state, [x, *given, *ours.parameters()])
    for mine, reference in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, reference, **TOLERANCE)


@pytest.mark.parametrize("name", MODULES)
def test_equals_torch_nn_without_bias_and_unbatched(name):
    theirs, ours = twins(name, 2, True, False, "auto", bias=False)
    x = torch.randn(TIME, INPUT, dtype=torch.double)
    expected, expected_state = theirs(x)
    output, ended = ours(x)
    torch.testing.assert_close(output, expected, **TOLERANCE)
    torch.testing.assert_close(ours.state_to_torch(ended), expected_state, **TOLERANCE)


@pytest.mark.parametrize("enforce_sorted", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_packed_sequences_go_in_and_out_as_in_torch_nn(batch_first, enforce_sorted):
    theirs, ours = twins("lstm", 2, True, batch_first, "auto")
    lengths = LENGTHS.sort(descending=True).values if enforce_sorted else LENGTHS
    x = torch.randn(BATCH, TIME, INPUT, dtype=torch.double)
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=enforce_sorted)
    expected, expected_state = theirs(packed)
    output, ended = ours(packed)
    torch.testing.assert_close(output.data, expected.data, **TOLERANCE)
    assert torch.equal(output.batch_sizes, expected.batch_sizes)
    assert (output.sorted_indices is None) == (expected.sorted_indices is None)
    torch.testing.assert_close(ours.state_to_torch(ended), expected_state, **TOLERANCE)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_backends_equal_the_loop_to_float32_rounding(name, backend):
    _, ours = twins(name, 3, True, False, "loop")
    ours.float()
    x = torch.randn(20, BATCH, INPUT)
    expected, expected_state = ours(x, lengths=[20, 1, 0, 13, 7])
    ours.backend = backend
    output, ended = ours(x, lengths=[20, 1, 0, 13, 7])
    torch.testing.assert_close(output, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(tree_leaves(ended), tree_leaves(expected_state), rtol=1e-5, atol=1e-6)
