"""Second derivatives of what the fused kernels compute are those of the loop."""

import copy
import gc

import pytest
import torch
from helpers import needs_fused
from torch import Tensor

from deep_rnn import CELLS, DeepRNN

pytestmark = needs_fused
FUSED = sorted(name for name in CELLS if name not in ("lstmp", "slstm"))
OPTIONS = [
    {"num_layers": 2, "bidirectional": True},
    {"bias": False, "learn_state": True},
    {"num_layers": 3, "dropout": 0.5, "zoneout": 0.3, "weight_drop": 0.2},
]


def stack(cell: str, backend: str, **options) -> DeepRNN:
    """A stack in float64, of the same weights whatever runs it; with drop weight only where the cell has a matrix."""
    if cell in ("fo_pool", "indrnn", "mingru", "minlstm", "sru"):
        options.pop("weight_drop", None)
    torch.manual_seed(0)
    return DeepRNN(6, 6, cell=cell, dtype=torch.float64, backend=backend, **options)


def penalty(rnn: DeepRNN, x: Tensor) -> list[Tensor]:
    """Gradients, by x and all parameters, of a penalty on the gradients by x and all parameters."""
    torch.manual_seed(1)  # of the noise
    wanted = [x, *rnn.parameters()]
    output, _ = rnn(x, lengths=[5, 3, 0])
    first = torch.autograd.grad(output.pow(3).sum(), wanted, create_graph=True, materialize_grads=True)
    return list(torch.autograd.grad(sum(grad.square().sum() for grad in first), wanted, materialize_grads=True))


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("cell", FUSED)
def test_second_derivatives_are_those_of_the_loop(cell: str, options: dict):
    x = torch.randn(5, 3, 6, dtype=torch.float64, requires_grad=True)
    ours, truth = penalty(stack(cell, "fused", **options), x), penalty(stack(cell, "loop", **options), x)
    for one, other in zip(ours, truth, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_third_derivatives_are_those_of_the_loop():
    def third(rnn: DeepRNN) -> Tensor:
        x = torch.linspace(-1, 1, 24, dtype=torch.float64).reshape(4, 1, 6).requires_grad_()
        y = rnn(x)[0].pow(2).sum()
        for _ in range(3):
            (y,) = torch.autograd.grad(y, x, create_graph=True)
            y = y.pow(2).sum()
        return y.detach()

    torch.testing.assert_close(third(stack("gru", "fused")), third(stack("gru", "loop")), rtol=1e-9, atol=0)


def test_a_weight_that_is_also_behind_x_is_differentiated_once_for_each_use():
    def twice_over(backend: str) -> list[Tensor]:
        rnn, x = stack("lstm", backend), torch.full((3, 2, 6), 0.5, dtype=torch.float64, requires_grad=True)
        first = torch.autograd.grad(rnn(rnn(x)[0])[0].sum(), [x, *rnn.parameters()], create_graph=True)
        return list(torch.autograd.grad(sum(grad.square().sum() for grad in first), list(rnn.parameters())))

    for one, other in zip(twice_over("fused"), twice_over("loop"), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_a_stack_that_is_gone_says_so():
    rnn, x = copy.deepcopy(stack("rnn", "fused")), torch.ones(3, 2, 6, dtype=torch.float64, requires_grad=True)
    (first,) = torch.autograd.grad(rnn(x)[0].sum(), x, create_graph=True)
    del rnn
    gc.collect()
    with pytest.raises(RuntimeError, match="no longer exists"):
        first.sum().backward()
