"""The fused loss of a softmax equals its formula."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from deep_rnn.kernels import fused
from deep_rnn.kernels.linear_cross_entropy import LinearCrossEntropy, formula, linear_cross_entropy

pytestmark = pytest.mark.skipif(fused.why_not() is not None, reason="the fused kernels did not compile")

SIZES = {  # lines, features, classes
    "one": (1, 1, 1),
    "no lines": (0, 3, 5),
    "no features": (4, 0, 5),
    "two blocks of lines": (45, 7, 11),
    "two panels of classes": (40, 20, 517),
    "twice as many logits as are held": (1100, 3, 5003),
}


def arguments(size, dtype=torch.double):
    lines, features, classes = size
    torch.manual_seed(0)
    shapes = (lines, features), (classes, features), (classes,)
    targets = torch.randint(-1, classes, (lines,))
    return *(torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes), targets


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.double, 1e-11), (torch.float, 1e-4)])  # sums of 1,100 lines
def test_the_fused_loss_and_its_gradients_equal_the_formula(size, dtype, tolerance):
    given = arguments(size, dtype)
    found, expected = linear_cross_entropy(*given), formula(*given)
    assert "LinearCrossEntropy" in found.grad_fn.name() and found.dtype == dtype
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    grads = (torch.autograd.grad(loss / 3, given[:3]) for loss in (found, expected))
    torch.testing.assert_close(*grads, rtol=tolerance, atol=tolerance)
    with torch.no_grad():
        torch.testing.assert_close(linear_cross_entropy(*given), expected, rtol=tolerance, atol=tolerance)


def test_any_number_of_threads_gives_the_same_loss_and_gradients():
    given, found = arguments((700, 9, 1201)), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            loss = linear_cross_entropy(*given)
            found.append((loss, *torch.autograd.grad(loss, given[:3])))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shift", [-1e4, 1e4])
def test_logits_far_from_zero_lose_nothing(shift):
    hidden, weight, bias, targets = arguments((30, 4, 50), torch.float)
    far = bias.detach() + shift
    wanted = formula(hidden.double(), weight.double(), far.double(), targets)
    assert linear_cross_entropy(hidden, weight, far, targets).item() == pytest.approx(wanted.item(), rel=1e-4)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_shows_in_the_loss(value):
    hidden, weight, bias, targets = arguments((30, 4, 50))
    targets[7] = 3
    with torch.no_grad():
        hidden[7, 2] = value
    assert not linear_cross_entropy(hidden, weight, bias, targets).isfinite()
    targets[7] = -1  # and a line that counts for nothing may hold anything, as in torch
    loss = linear_cross_entropy(hidden, weight, bias, targets)
    (grad,) = torch.autograd.grad(loss, hidden)
    assert loss.isfinite() and not grad[7].any() and grad.isfinite().all()


def test_tensors_of_any_strides_are_taken():
    hidden, weight, bias, targets = arguments((12, 6, 9))
    given = hidden.t().contiguous().t(), weight.t().contiguous().t(), bias.repeat(2)[::2], targets.repeat(2)[::2]
    expected = formula(*given)
    torch.testing.assert_close(linear_cross_entropy(*given), expected)
    grads = (torch.autograd.grad(loss, given[:3]) for loss in (linear_cross_entropy(*given), expected))
    torch.testing.assert_close(*grads)


def test_the_fused_loss_can_be_differentiated_twice_even_where_hidden_comes_from_the_weight():
    hidden, weight, bias, targets = arguments((5, 3, 6))
    assert torch.autograd.gradgradcheck(lambda *given: linear_cross_entropy(*given, targets), (hidden, weight, bias))

    def tied(weight, bias):
        return linear_cross_entropy(weight[targets.clamp(min=0)].tanh(), weight, bias, targets)

    assert torch.autograd.gradcheck(tied, (weight, bias)) and torch.autograd.gradgradcheck(tied, (weight, bias))


@pytest.mark.parametrize("frozen", [{0}, {1}, {2}, {1, 2}, {0, 1, 2}], ids=str)
def test_frozen_arguments_get_no_gradient(frozen):
    *given, targets = arguments((5, 3, 6))
    expected = torch.autograd.grad(formula(*given, targets), given)
    for index in frozen:
        given[index].requires_grad_(False)
    loss = linear_cross_entropy(*given, targets)
    if len(frozen) < 3:
        loss.backward()
    for index, one in enumerate(given):
        assert one.grad is None if index in frozen else torch.allclose(one.grad, expected[index])


def test_what_the_operator_cannot_take_goes_by_the_formula():
    hidden, weight, bias, targets = arguments((5, 3, 6))
    with torch.autocast("cpu", torch.bfloat16):
        loss = linear_cross_entropy(hidden.float(), weight.float(), bias.float(), targets)
    assert LinearCrossEntropy.__name__ not in loss.grad_fn.name()
    each = torch.func.vmap(torch.func.grad(linear_cross_entropy), (0, None, None, 0))(
        hidden[:, None], weight, bias, targets[:, None]
    )
    torch.testing.assert_close(each[:, 0], torch.autograd.grad(formula(hidden, weight, bias, targets), hidden)[0])


@pytest.mark.parametrize(
    ("replaced", "said"),
    [
        ({0: torch.zeros(5, 4).double()}, "do not fit together"),
        ({2: torch.zeros(7).double()}, "do not fit together"),
        ({3: torch.zeros(4, dtype=torch.long)}, "one a line"),
        ({3: torch.tensor([0, 1, 6, 0, 0])}, "target 6 is not one of 6 classes"),
        ({3: torch.tensor([0, 1, -100, 0, 0])}, "target -100 is not one of 6 classes, nor -1"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(replaced, said):
    given = dict(enumerate(arguments((5, 3, 6)))) | replaced
    with pytest.raises(RuntimeError, match=said):
        linear_cross_entropy(*given.values())


def test_shapes_are_known_without_values():
    with FakeTensorMode() as mode:
        *given, targets = (mode.from_tensor(one) for one in arguments((5, 3, 6)))
        loss = linear_cross_entropy(*given, targets)
        grads = torch.autograd.grad(loss, given)
    assert loss.shape == () and [grad.shape for grad in grads] == [one.shape for one in given]
