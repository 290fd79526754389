"""Few sequences of a wide layer, whose units the threads share, against torch.nn."""

from collections.abc import Iterator

import pytest
import torch
from fused_problem import LAYERS, Problem, assert_close
from torch import Tensor

from deep_rnn.kernels import fused

pytestmark = pytest.mark.skipif(fused.why_not() is not None, reason=str(fused.why_not()))

WIDTH = 453  # no multiple of a vector, and wide enough for three threads


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def results_and_gradients(problem: Problem, results: list[Tensor]) -> list[Tensor]:
    return [*results, *problem.gradients(results)]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("steps, batch", [(1, 1), (20, 1), (3, 2), (70, 2), (40, 5), (20, 8)])
@pytest.mark.parametrize("cell", LAYERS)
def test_outputs_and_all_gradients_equal_torch_nn_on_any_number_of_threads(
    cell: str, steps: int, batch: int, dtype: torch.dtype, threads: int
) -> None:
    problem = Problem(cell, (steps, batch, 37, WIDTH, 2), (False,), dtype)
    assert_close(results_and_gradients(problem, problem.fused()), results_and_gradients(problem, problem.torch_nn()))


@pytest.mark.parametrize("cell", LAYERS)
def test_lengths_equal_packed_torch_nn_in_all_gradients(cell: str, threads: int) -> None:
    problem = Problem(cell, (9, 6, 5, WIDTH, 2), (False, True))
    lengths = torch.tensor([3, 9, 1, 5, 5, 2])
    ours, theirs = problem.fused(lengths=lengths), problem.torch_nn(lengths)
    assert_close(results_and_gradients(problem, ours), results_and_gradients(problem, theirs))


@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("cell", LAYERS)
def test_no_biases_equals_torch_nn_without_them(cell: str, batch: int, threads: int) -> None:
    problem = Problem(cell, (20, batch, 5, WIDTH, 1), (False,), bias=False)
    ours, theirs = problem.fused(), problem.torch_nn()
    assert_close(results_and_gradients(problem, ours), results_and_gradients(problem, theirs))


def test_what_is_asked_for_alone_is_what_all_together_give(threads: int) -> None:
    problem = Problem("gru", (20, 8, 5, WIDTH, 1), (False,))
    together = iter(problem.gradients(problem.fused()))
    for alone in ([problem.x], problem.states, problem.weights):
        found = torch.autograd.grad(problem.fused(), alone, problem.grads)
        assert_close(found, [next(together) for _ in alone])


def test_backwards_is_forwards_over_the_turned_sequence(threads: int) -> None:
    problem = Problem("gru", (30, 3, 8, WIDTH, 1), (False,))
    forwards = results_and_gradients(problem, problem.fused())
    problem.reverse, problem.x = (True,), problem.x.detach().flip(0).requires_grad_()
    problem.grads[0] = problem.grads[0].flip(0)
    output, state, grad_x, *rest = results_and_gradients(problem, problem.fused())
    assert_close([output.flip(0), state, grad_x.flip(0), *rest], forwards)


@pytest.mark.parametrize("steps", [12, 40])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_masks_reach_every_gradient(cell: str, steps: int, threads: int) -> None:
    problem = Problem(cell, (steps, 4, 8, WIDTH, 1), (False,))
    masks = [(torch.rand(4, WIDTH) < 0.8).double() / 0.8]
    found = results_and_gradients(problem, problem.fused(masks=masks))
    each = []
    for row in range(4):  # a row by itself, and 40 times beside itself, is led by other code
        alone = Problem(cell, (steps, 40, 8, WIDTH, 1), (False,))
        alone.weights, alone.theirs = problem.weights, problem.theirs
        alone.x = problem.x.detach()[:, row : row + 1].expand(-1, 40, -1).clone().requires_grad_()
        alone.states = [s.detach()[row : row + 1].expand(40, -1).clone().requires_grad_() for s in problem.states]
        alone.grads = [g.narrow(-2, row, 1).expand(*g.shape[:-2], 40, -1) / 40 for g in problem.grads]
        each.append(
            results_and_gradients(alone, alone.fused(masks=[masks[0][row : row + 1].expand(40, -1).contiguous()]))
        )
    rows = len(problem.states) + 1  # results: output and states
    for k, value in enumerate(found):
        parts = [one[k] for one in each]
        if k < rows:
            expected = torch.cat([part.narrow(-2, 0, 1) for part in parts], -2)
        elif k < 2 * rows:  # gradients of x and of the states
            expected = torch.cat([part.sum(-2, keepdim=True) for part in parts], -2)
        else:
            expected = torch.stack(parts).sum(0)
        assert_close([value], [expected])


def test_the_same_call_gives_the_same_bits(threads: int) -> None:
    problem = Problem("lstm", (25, 3, 8, WIDTH, 2), (False,), torch.float32)
    first, second = (results_and_gradients(problem, problem.fused()) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_group_of_models_is_its_members_one_after_another(threads: int) -> None:
    members = [Problem("lstm", (10, 1, 6, WIDTH, 1), (False,)) for _ in range(2)]
    for k, problem in enumerate(members):
        problem.x = torch.randn_like(problem.x, generator=torch.Generator().manual_seed(k))
    stacked = [torch.stack(each) for each in zip(*([m.x, *m.states, *m.weights] for m in members), strict=True)]

    def run(x: Tensor, *rest: Tensor) -> list[Tensor]:
        output, states = fused.unroll(x, rest[:2], rest[2:], "lstm")
        return [output, *states]

    together = torch.func.vmap(run)(*stacked)
    for k, problem in enumerate(members):
        assert_close([result[k] for result in together], problem.fused())
