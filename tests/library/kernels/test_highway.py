"""The fused mix of a highway link equals its formula."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from deep_rnn.kernels import fused, highway

pytestmark = pytest.mark.skipif(fused.why_not() is not None, reason="the fused kernels did not compile")

SIZES = {"same width": (5, 3, 8, 8), "wider": (7, 4, 3, 21), "many lines": (40, 5, 17, 16), "no steps": (0, 2, 4, 4)}


def arguments(size, dtype=torch.double, same=False):
    time, batch, below, width = size
    torch.manual_seed(0)
    shapes = (time, batch, width), (time, batch, width), (time, batch, below), (width, below), (width,)
    carried, *others = (torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes)
    return [others[1] if same else carried, *others]


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.double, 1e-12), (torch.float, 2e-5)])  # sums of 200 products
def test_the_fused_mix_and_its_gradients_equal_the_formula(size, dtype, tolerance):
    given = arguments(size, dtype, same=size[2] == size[3])
    assert fused.can_fuse(*given)
    weights = torch.randn(given[1].shape, dtype=dtype)
    found, expected = highway.mix(*given), highway.formula(*given)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    of = list({id(one): one for one in given}.values())
    grads = (torch.autograd.grad(mixed, of, weights) for mixed in (found, expected))
    torch.testing.assert_close(*grads, rtol=tolerance, atol=tolerance)


def test_tensors_of_any_strides_are_taken():
    carried, out, below, weight, bias = arguments((4, 3, 6, 6))
    given = (carried, out, below.transpose(0, 1).contiguous().transpose(0, 1), weight.t().contiguous().t(), bias)
    found, expected = highway.mix(*given), highway.formula(*given)
    grads = (torch.autograd.grad(mixed.sum(), given) for mixed in (found, expected))  # of an expanded gradient
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*grads)


def test_the_fused_mix_can_be_differentiated_twice():
    assert torch.autograd.gradgradcheck(highway.mix, arguments((2, 2, 3, 4)))
    _, out, below, weight, bias = arguments((2, 2, 3, 3))
    assert torch.autograd.gradgradcheck(lambda x, *rest: highway.mix(x, out, x, *rest), (below, weight, bias))


def test_frozen_arguments_get_no_gradient():
    given = arguments((2, 2, 3, 4))
    given[2].requires_grad_(False), given[3].requires_grad_(False)
    highway.mix(*given).sum().backward()
    assert [one.grad is not None for one in given] == [True, True, False, False, True]


def test_what_the_operator_cannot_take_goes_by_the_formula():
    given = arguments((2, 2, 3, 4))
    assert not fused.can_fuse(*given[:-1], given[-1].float())
    assert not fused.can_fuse(*(one.half() for one in given))
    with torch.autocast("cpu", torch.bfloat16):
        assert not fused.can_fuse(*given)
    asked = []
    torch.func.vmap(lambda one: asked.append(fused.can_fuse(one)) or one)(given[0])
    assert asked == [False]


def test_shapes_that_do_not_fit_are_refused():
    carried, out, below, weight, bias = arguments((2, 2, 3, 4))
    with pytest.raises(RuntimeError, match="do not fit together"):
        highway.mix(carried, out, below[:1], weight, bias)
    with pytest.raises(RuntimeError, match="bias"):
        highway.mix(carried, out, below, weight, bias[:2])


def test_shapes_are_known_without_values():
    with FakeTensorMode() as mode:
        given = [mode.from_tensor(one) for one in arguments((2, 2, 3, 4))]
        mixed = highway.mix(*given)
        grads = torch.autograd.grad(mixed.sum(), given)
    assert mixed.shape == given[1].shape and [grad.shape for grad in grads] == [one.shape for one in given]
