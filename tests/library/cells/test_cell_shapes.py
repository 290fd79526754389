"""Without values, on the meta device or in FakeTensorMode, everything has the shapes that it has with them."""

import pytest
import torch
from cell_cases import PLAIN
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

import deep_rnn
from deep_rnn import DeepRNN
from deep_rnn.kernels import fused

TIME, BATCH, WIDTH, HIDDEN = 3, 2, 3, 4
STARTS = torch.tensor([[False, True], [True, False], [False, False]])
ASKED = {"plain": {}, "lengths": {"lengths": torch.tensor([3, 0])}, "starts": {"starts": STARTS}}


def shapes(values):
    return [value.shape for value in tree_leaves(values)]


@pytest.mark.parametrize("asked", ASKED.values(), ids=ASKED)
@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_a_stack_on_the_meta_device_gives_meta_results_and_gradients(case, asked):
    options = {"bidirectional": True, "link": "residual", "zoneout": 0.1 * (case.cell != "lstm")}
    with torch.device("meta"):
        rnn = case.build(HIDDEN, 2, **options)
        x = torch.randn(TIME, BATCH, WIDTH, dtype=torch.double, requires_grad=True)
    found = rnn(x, **asked)
    assert all(value.is_meta for value in tree_leaves(found))
    found[0].sum().backward()
    assert x.grad.is_meta
    real = case.build(HIDDEN, 2, **options, backend="loop")
    assert shapes(found) == shapes(real(torch.randn(TIME, BATCH, WIDTH, dtype=torch.double), **asked))


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn", "lstmp"])
@pytest.mark.parametrize("backend", ["loop", "native"])
def test_a_named_backend_runs_on_the_meta_device(cell, backend):
    rnn = DeepRNN(WIDTH, HIDDEN, 2, cell, dropout=0.5, link="highway", backend=backend, device="meta")
    output, _ = rnn(torch.empty(TIME, BATCH, WIDTH, device="meta"), lengths=[3, 1])
    assert output.is_meta and output.shape == (TIME, BATCH, rnn.output_size)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("lengths", [None, [3, 0]])
def test_drop_in_layers_run_on_the_meta_device(kind, lengths):
    layer = getattr(deep_rnn, kind)(WIDTH, HIDDEN, 2, bidirectional=True, batch_first=True, device="meta")
    found = layer(torch.empty(BATCH, TIME, WIDTH, device="meta"), lengths=lengths)
    assert all(value.is_meta for value in tree_leaves(found))
    real = getattr(deep_rnn, kind)(WIDTH, HIDDEN, 2, bidirectional=True, batch_first=True)
    assert shapes(found) == shapes(real(torch.zeros(BATCH, TIME, WIDTH), lengths=lengths))


BACKENDS = ["auto", "loop", "native", *["fused"] * (fused.why_not() is None)]


@pytest.mark.parametrize("make", [*BACKENDS, deep_rnn.LSTM, deep_rnn.GRU])
def test_fake_tensors_go_through_forward_and_backward(make):
    with FakeTensorMode():
        layer = DeepRNN(WIDTH, HIDDEN, 2, "gru", backend=make) if isinstance(make, str) else make(WIDTH, HIDDEN, 2)
        x = torch.randn(TIME, BATCH, WIDTH, requires_grad=True)
        output, _ = layer(x, lengths=torch.tensor([3, 1]))
        output.sum().backward()
    assert type(output).__name__ == "FakeTensor" and x.grad.shape == x.shape and output.shape == (TIME, BATCH, HIDDEN)
