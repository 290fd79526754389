"""The fused operator against torch.nn, and under torch's transforms."""

import pytest
import torch
from fused_problem import LAYERS, Problem, assert_close
from torch import Tensor

from deep_rnn.kernels import fused

pytestmark = pytest.mark.skipif(fused.why_not() is not None, reason=str(fused.why_not()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("cell", LAYERS)
@pytest.mark.parametrize(
    "sizes, reverse",
    [
        ((7, 3, 4, 5, 2), (False,)),
        ((9, 17, 6, 35, 2), (False, True)),
        ((1, 1, 1, 1, 1), (False,)),
        ((5, 40, 33, 64, 3), (False,)),
    ],
    ids=str,
)
def test_outputs_and_all_gradients_equal_torch_nn(
    cell: str, sizes: tuple[int, int, int, int, int], reverse: tuple[bool, ...], dtype: torch.dtype
) -> None:
    problem = Problem(cell, sizes, reverse, dtype)
    ours, theirs = problem.fused(), problem.torch_nn()
    assert_close(ours, theirs)
    assert_close(problem.gradients(ours), problem.gradients(theirs))


@pytest.mark.parametrize("cell", LAYERS)
def test_lengths_equal_packed_torch_nn_in_all_gradients(cell: str) -> None:
    problem = Problem(cell, (9, 6, 5, 20, 2), (False, True))
    lengths = torch.tensor([3, 9, 1, 5, 5, 2])
    ours, theirs = problem.fused(lengths=lengths), problem.torch_nn(lengths)
    assert_close(ours, theirs)
    assert_close(problem.gradients(ours), problem.gradients(theirs))


def test_what_stands_in_the_padding_changes_nothing() -> None:
    problem = Problem("gru", (6, 3, 4, 5, 2), (False, True))
    lengths = torch.tensor([2, 6, 0])
    clean = problem.fused(lengths=lengths)
    gradients = problem.gradients(clean)
    padded = torch.arange(6)[:, None] >= lengths
    problem.x = problem.x.detach().masked_fill(padded[..., None], float("nan")).requires_grad_()
    spoilt = problem.fused(lengths=lengths)
    assert all(torch.equal(a, b) for a, b in zip(spoilt, clean, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(problem.gradients(spoilt), gradients, strict=True))
    assert not spoilt[0][padded].any()
    assert torch.equal(spoilt[1][2], problem.states[0][2])  # length 0 leaves the state as it was


def test_no_biases_equals_biases_of_zero() -> None:
    without = Problem("gru", (5, 3, 4, 6, 2), (False,), bias=False)
    ours, theirs = without.fused(), without.torch_nn()
    assert_close(ours, theirs)
    assert_close(without.gradients(ours), without.gradients(theirs))


def test_masks_multiply_h_before_the_recurrent_product() -> None:
    problem = Problem("lstm", (6, 4, 3, 5, 1), (False,))
    mask = torch.randn(4, 5, dtype=torch.float64)
    (h, c), (w_ih, w_hh, b_ih, b_hh) = problem.states, problem.weights
    outputs = []
    for x in problem.x:
        i, f, g, o = (x @ w_ih.T + b_ih + (h * mask) @ w_hh.T + b_hh).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        outputs.append(h)
    expected = [torch.stack(outputs), h, c]
    ours = problem.fused(masks=[mask])
    assert_close(ours, expected)
    assert_close(problem.gradients(ours), problem.gradients(expected))


@pytest.mark.parametrize("cell", LAYERS)
def test_strange_strides_change_nothing(cell: str) -> None:
    problem = Problem(cell, (5, 4, 3, 6, 1), (False,))
    expected = problem.fused()[0]
    problem.x = problem.x.detach().permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert torch.equal(problem.fused()[0], expected)
    problem.x = torch.ones(1, 1, 1, dtype=torch.float64).expand(5, 4, 3)
    strided = problem.fused()[0]
    problem.x = problem.x.contiguous()
    assert torch.equal(strided, problem.fused()[0])


def test_the_gradient_of_a_plain_sum_lives_until_every_layer_has_read_it() -> None:
    problem = Problem("gru", (5, 8, 4, 8, 3), (False,))
    inputs = [problem.x, *problem.weights]
    gradients = [torch.autograd.grad(one()[0].sum(), inputs) for one in (problem.fused, problem.torch_nn)]
    assert_close(*gradients)


@pytest.mark.parametrize("T, B", [(0, 3), (3, 0), (0, 0)])
def test_nothing_in_gives_nothing_out_and_zero_gradients(T: int, B: int) -> None:
    problem = Problem("gru", (T, B, 4, 5, 2), (False, True))
    results = problem.fused()
    assert results[0].shape == (T, B, 10)
    assert all(torch.equal(a, b) for a, b in zip(results[1:], problem.states, strict=True))
    gradients = problem.gradients(results)
    assert all(torch.equal(a, b) for a, b in zip(gradients[1:5], problem.grads[1:], strict=True))
    assert not any(gradient.any() for gradient in gradients[5:])


@pytest.mark.parametrize("cell", LAYERS)
def test_nan_and_infinity_come_out_where_torch_nn_has_them(cell: str) -> None:
    problem = Problem(cell, (5, 4, 3, 6, 1), (False,), torch.float32)
    with torch.no_grad():
        problem.x[1, 0, 0], problem.x[2, 1, 1], problem.x[3, 2, 2] = float("nan"), float("inf"), float("-inf")
        torch.testing.assert_close(problem.fused(), problem.torch_nn(), equal_nan=True, rtol=0, atol=1e-5)


def test_wrong_shapes_and_lengths_are_refused_by_name() -> None:
    problem = Problem("gru", (5, 4, 3, 6, 1), (False,), torch.float32)
    with pytest.raises(RuntimeError, match=r"length 6 is not in 0 ... 5"):
        problem.fused(lengths=torch.tensor([5, 6, 1, 1]))
    with pytest.raises(RuntimeError, match=r"lengths must be int64"):
        problem.fused(lengths=torch.tensor([5.0, 5.0, 1.0, 1.0]))
    problem.weights[1] = torch.randn(17, 6)
    with pytest.raises(RuntimeError, match=r"weight_hh has shape"):
        problem.fused()
    problem.cell = "gruu"
    with pytest.raises(RuntimeError, match="no cell gruu"):
        problem.fused()


# Under transforms: a function of everything, and its arguments, alone or in a group of three.


def loss(x: Tensor, states: list[Tensor], weights: list[Tensor], lengths: Tensor | None = None) -> Tensor:
    output, after = fused.unroll(x, states, weights, "gru", (False, True), lengths)
    return (output * output.sin()).sum() + sum((state * state).sum() for state in after)


def arguments(*group: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    torch.manual_seed(0)
    new = lambda *shape: torch.randn(*group, *shape, dtype=torch.float64, requires_grad=True)  # noqa: E731
    each = [(18, 6), (18,), (18,)]
    weights = [new(*shape) for width in (4, 12) for shape in [(18, width), *each] * 2]
    return new(5, 3, 4), [new(3, 6) for _ in range(4)], weights


def flat(x: Tensor, states: list[Tensor], weights: list[Tensor]) -> list[Tensor]:
    return [x, *states, *weights]


def member(k: int, x: Tensor, states: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    return x[k], [state[k] for state in states], [weight[k] for weight in weights]


def test_gradcheck_with_lengths() -> None:
    x, states, weights = arguments()
    lengths = torch.tensor([5, 0, 3])
    assert torch.autograd.gradcheck(lambda x, *rest: loss(x, rest[:4], rest[4:], lengths), (x, *states, *weights))


def test_a_group_under_vmap_is_its_members_one_after_another() -> None:
    group = arguments(3)
    lengths = torch.tensor([[5, 2, 0], [1, 1, 1], [3, 5, 4]])
    together = torch.func.vmap(loss)(*group, lengths)
    alone = torch.stack([loss(*member(k, *group), lengths[k]) for k in range(3)])
    assert torch.equal(together, alone)
    found, expected = (torch.autograd.grad(losses.sum(), flat(*group)) for losses in (together, alone))
    assert_close(found, expected)


def test_func_grad_inside_and_outside_of_vmap_equals_autograd() -> None:
    group = arguments(3)
    found = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1, 2)))(*group)
    for k in range(3):
        one = member(k, *group)
        expected = torch.autograd.grad(loss(*one), flat(*one))
        assert_close(flat(*member(k, *found)), expected)
        assert_close(flat(*torch.func.grad(loss, argnums=(0, 1, 2))(*one)), expected)


def test_torch_compile_sees_one_operator() -> None:
    args = arguments()
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)(*args)
    eager = loss(*args)
    assert torch.equal(compiled, eager)
    assert_close(torch.autograd.grad(compiled, flat(*args)), torch.autograd.grad(eager, flat(*args)))


def test_torch_library_finds_no_fault() -> None:
    x, states, weights = arguments()
    args = (x, None, states, weights, [], [], [], [], "gru", list(fused.TORCH_NAMES), [], [], [False, True], [], False)
    torch.library.opcheck(torch.ops.deep_rnn.unroll.default, args)


def test_without_cells_second_and_forward_mode_derivatives_are_refused_naming_loop() -> None:
    x, states, weights = arguments()
    (gradient,) = torch.autograd.grad(loss(x, states, weights), x, create_graph=True)
    with pytest.raises(RuntimeError, match="backend=loop"):
        gradient.sum().backward()
    with pytest.raises(RuntimeError, match="backend=loop"):
        torch.func.jvp(lambda x: loss(x, states, weights), (x,), (x,))
