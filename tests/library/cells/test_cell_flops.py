"""torch.utils.flop_counter counts the fused kernels' matrix products: as many as the written-out loop's."""

import subprocess
import sys

import pytest
import torch
from cell_cases import CASES, Case, batch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import deep_rnn
from deep_rnn import DeepRNN
from deep_rnn.kernels import fused
from deep_rnn.kernels.linear_cross_entropy import formula, linear_cross_entropy

pytestmark = pytest.mark.skipif(fused.why_not() is not None, reason="the fused kernels did not compile")


def counted(call):
    """Operations of a forward, and of it with its backward."""
    with FlopCounterMode(display=False) as counter:
        output = call()
        forward = counter.get_total_flops()
        output.sum().backward()
    return forward, counter.get_total_flops()


def assert_counts_equal(rnn, x, **asked):
    rnn.backend = "fused"
    found = counted(lambda: rnn(x, **asked)[0])
    rnn.backend = "loop"
    assert found == counted(lambda: rnn(x, **asked)[0])
    assert found[1] > found[0] > 0


def is_fused(case: Case) -> bool:
    return case.build().layers[0].cell.fused_mode is not None


@pytest.mark.parametrize("case", [case for case in CASES if is_fused(case)], ids=str)
@pytest.mark.parametrize("wants_x", [True, False])
def test_a_fused_call_counts_as_many_as_the_loop(case, wants_x):
    assert_counts_equal(case.build(), batch(3, 2).requires_grad_(wants_x))


OPTIONS = {
    "two layers": {},
    "both ways": {"bidirectional": True},
    "highway": {"link": "highway"},
    "learned states": {"learn_state": True},
    "noise": {"zoneout": 0.2, "weight_drop": 0.2, "recurrent_dropout": 0.2, "dropout": 0.5},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("lengths", [None, [3, 0]])
def test_stacks_count_as_many_as_the_loop_padded_steps_among_them(options, lengths):
    rnn = DeepRNN(3, 4, 2, "lstm", dtype=torch.double, **options)
    assert_counts_equal(rnn, batch(3, 2), lengths=lengths)


def test_a_layer_counts_as_many_as_torchs():
    x = batch()
    theirs, ours = nn.LSTM(3, 4, 2, dtype=torch.double), deep_rnn.LSTM(3, 4, 2, dtype=torch.double)
    products = 2 * 6 * 3 * (16 * 3 + 16 * 4 + 16 * 4 + 16 * 4)  # steps, sequences, W_ih and W_hh of both layers
    found = counted(lambda: ours(x)[0])
    assert found[0] == products
    assert found == counted(lambda: theirs(x)[0])


def test_a_softmaxs_loss_counts_as_many_as_its_formula():
    hidden, weight, bias = (torch.randn(*shape, requires_grad=True) for shape in ((5, 3), (7, 3), (7,)))
    targets = torch.randint(7, (5,))
    found, expected = (counted(lambda f=f: f(hidden, weight, bias, targets)) for f in (linear_cross_entropy, formula))
    assert found[1] == expected[1] > 0  # the fused operator makes its gradients along with the loss


def test_a_counter_counts_the_call_that_loads_the_kernels():
    program = """
import torch, deep_rnn
from torch.utils.flop_counter import FlopCounterMode
layer = deep_rnn.LSTM(3, 4)
with FlopCounterMode(display=False) as counter:
    layer(torch.zeros(5, 2, 3))
print(counter.get_total_flops())"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 2 * 5 * 2 * 16 * (3 + 4)
