"""Weights made from others, by pruning, norms and parametrisations: a stack trains with them as torch.nn does."""

import copy
import functools
import pickle
import warnings

import pytest
import torch
from helpers import BACKENDS, needs_fused
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import deep_rnn
from deep_rnn import DeepRNN

KINDS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
EXACT = {"rtol": 1e-9, "atol": 1e-11}


class LowRank(nn.Module):
    """W + a b, as LoRA has it."""

    def __init__(self, like: Tensor) -> None:
        super().__init__()
        rows, columns = like.shape
        self.a = nn.Parameter(torch.full((rows, 2), 0.1, dtype=like.dtype))
        self.b = nn.Parameter(torch.full((2, columns), 0.1, dtype=like.dtype))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.a @ self.b


class Counting(nn.Module):
    """Nothing, and how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def forward(self, weight: Tensor) -> Tensor:
        self.count += 1
        return weight * 1


class Random(Counting):
    """DropConnect as a parametrisation: another weight at each look."""

    def forward(self, weight: Tensor) -> Tensor:
        return nn.functional.dropout(super().forward(weight), 0.5)


def by_hook(function):
    """Torch's older functions, which warn that they are."""

    def apply(module: nn.Module, name: str) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(module, name)

    return apply


WAYS = {
    "prune": lambda module, name: prune.random_unstructured(module, name, 0.5),
    "old weight_norm": by_hook(nn.utils.weight_norm),
    "weight_norm": parametrizations.weight_norm,
    "old spectral_norm": by_hook(nn.utils.spectral_norm),
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "low rank": lambda m, name: parametrize.register_parametrization(m, name, LowRank(getattr(m, name)), unsafe=True),
}


def altered(module: nn.Module, layers: int, how: str) -> nn.Module:
    """A torch.nn layer or a stack with the input and the recurrent matrix of every layer made in this way."""
    torch.manual_seed(1)
    for layer in range(layers):
        for name in ("weight_ih", "weight_hh"):
            if isinstance(module, DeepRNN):
                WAYS[how](module.layers[layer].cell, name)
            else:
                WAYS[how](module, f"{name}_l{layer}")
    return module


def by_nn(cell: str, layers: int) -> nn.Module:
    """torch.nn's layers as they are before anything is altered."""
    torch.manual_seed(0)
    return KINDS[cell](3, 4, layers).double()


def stack(cell: str, layers: int, how: str, **options) -> DeepRNN:
    """A stack with the weights of ``by_nn``, altered."""
    rnn = DeepRNN(3, 4, layers, cell, dtype=torch.double, **options)
    rnn.load_state_dict(by_nn(cell, layers).state_dict())
    return altered(rnn, layers, how)


def trained(module: nn.Module) -> list[Tensor]:
    """The outputs of some steps of training, and the one of an evaluation."""
    x = torch.linspace(-1, 1, 5 * 2 * 3, dtype=torch.double).view(5, 2, 3)
    optimizer, outputs = torch.optim.SGD(module.parameters(), lr=0.5), []
    for _ in range(5):
        optimizer.zero_grad()
        with parametrize.cached():  # torch.nn asks four times a call, and spectral_norm moves each time
            output, _ = module(x)
        output.square().sum().backward()
        optimizer.step()
        outputs.append(output.detach())
    return [*outputs, module.eval()(x)[0].detach()]


def check_equal(ours: list[Tensor], theirs: list[Tensor]) -> None:
    assert not torch.allclose(theirs[0], theirs[-1])
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, **EXACT)


@functools.cache
def by_torch(cell: str, layers: int, how: str) -> list[Tensor]:
    """What torch.nn's layers give, once for all backends."""
    return trained(altered(by_nn(cell, layers), layers, how))


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cell", KINDS)
@pytest.mark.parametrize("how", WAYS)
def test_training_weights_made_from_others_is_torchs(how: str, cell: str, backend: str, layers: int) -> None:
    check_equal(trained(stack(cell, layers, how, backend=backend)), by_torch(cell, layers, how))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["prune", "spectral_norm", "old spectral_norm"])
def test_training_them_compiled_is_torchs(how: str) -> None:
    check_equal(trained(stack("rnn", 1, how, backend="compiled")), by_torch("rnn", 1, how))


@pytest.mark.parametrize("how", ["prune", "old weight_norm", "old spectral_norm", "orthogonal"])
def test_copies_and_what_is_unpickled_go_on_training_as_torchs(how: str) -> None:
    ours, expected = stack("lstm", 1, how), by_torch("lstm", 1, how)
    check_equal(trained(copy.deepcopy(ours)), expected)
    if how != "orthogonal":  # torch pickles no parametrised module
        check_equal(trained(pickle.loads(pickle.dumps(ours))), expected)


@pytest.mark.parametrize("how", WAYS)
def test_a_state_dict_that_is_loaded_is_what_is_computed_with(how: str) -> None:
    source, ours = stack("lstm", 2, how), stack("lstm", 2, how)
    expected = trained(source)[-1]
    x = torch.linspace(-1, 1, 5 * 2 * 3, dtype=torch.double).view(5, 2, 3)
    ours.eval()(x)
    ours.load_state_dict(source.state_dict())
    torch.testing.assert_close(ours(x)[0], expected, **EXACT)


REMOVALS = {
    "prune": prune.remove,
    "old weight_norm": nn.utils.remove_weight_norm,
    "old spectral_norm": nn.utils.remove_spectral_norm,
    "orthogonal": parametrize.remove_parametrizations,
}


@pytest.mark.parametrize("how", REMOVALS)
def test_taken_off_again_all_layers_run_in_one_call_with_the_same_weights(how: str) -> None:
    ours = stack("lstm", 2, how, backend="native")
    x = torch.linspace(-1, 1, 5 * 2 * 3, dtype=torch.double).view(5, 2, 3)
    ours.eval()
    expected = ours(x)[0]
    assert ("layer by layer" in ours.explain(x)) == (how != "orthogonal")
    for layer in ours.layers:
        for name in ("weight_ih", "weight_hh"):
            REMOVALS[how](layer.cell, name)
    assert ours.explain(x).startswith("layers 0-1 in one call: native")
    torch.testing.assert_close(ours(x)[0], expected, **EXACT)


@pytest.mark.parametrize("options", [{}, {"link": "residual"}, {"weight_drop": 0.3}, {"recompute": 2}])
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_parametrisation_is_asked_once_a_call(backend: str, options: dict) -> None:
    rnn = DeepRNN(3, 4, 2, "lstm", backend="loop" if options.get("recompute") else backend, **options)
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    counters = [Counting() for _ in range(2 * len(names))]
    places = [(layer.cell, name) for layer in rnn.layers for name in names]
    for (cell, name), counter in zip(places, counters, strict=True):
        parametrize.register_parametrization(cell, name, counter)
        counter.count = 0
    for calls in (1, 2, 3):
        output, _ = rnn(torch.randn(5, 2, 3), lengths=[5, 4])
        output.sum().backward()
        assert [counter.count for counter in counters] == [calls] * len(counters)
    rnn.eval()(torch.randn(5, 2, 3))
    rnn.step(torch.randn(2, 3))
    assert [counter.count for counter in counters] == [5] * len(counters)


@pytest.mark.parametrize("options", [{}, {"recompute": 2}])
@pytest.mark.parametrize("backend", [*BACKENDS, pytest.param("compiled", marks=pytest.mark.slow)])
def test_a_random_parametrisation_is_drawn_once_a_call(backend: str, options: dict) -> None:
    """The gradient is that of the weight that was drawn, also where the backward pass computes steps again."""
    backend = "loop" if options else backend
    rnn = DeepRNN(3, 4, 1, "rnn", backend=backend, dtype=torch.double, **options)
    x = torch.randn(5, 2, 3, dtype=torch.double)
    drawing = copy.deepcopy(rnn)
    parametrize.register_parametrization(drawing.layers[0].cell, "weight_hh", Random())
    torch.manual_seed(0)
    output = drawing(x)[0]
    output.square().sum().backward()
    torch.manual_seed(0)
    weight = rnn.layers[0].cell.weight_hh
    mask = nn.functional.dropout(torch.ones_like(weight), 0.5)
    with torch.no_grad():
        weight.mul_(mask)
    rnn.backend = "loop"
    expected = rnn(x)[0]
    expected.square().sum().backward()
    torch.testing.assert_close(output, expected, **EXACT)
    found = drawing.layers[0].cell.parametrizations.weight_hh.original.grad
    torch.testing.assert_close(found, weight.grad * mask, **EXACT)


@pytest.mark.parametrize("kind", [deep_rnn.LSTM, deep_rnn.GRU, deep_rnn.RNN])
def test_the_drop_in_layers_ask_no_oftener_than_torchs(kind: type[nn.RNNBase]) -> None:
    def times(made: nn.RNNBase, *arguments, **options) -> int:
        counter = Counting()
        parametrize.register_parametrization(made, "weight_hh_l0", counter)
        counter.count = 0
        made(torch.randn(5, 2, 3), *arguments, **options)
        return counter.count

    of_torch = times(kind.torchs(3, 4))
    assert times(kind(3, 4)) <= of_torch
    assert times(kind(3, 4), lengths=[5, 4]) <= of_torch


@needs_fused
@pytest.mark.parametrize("how", ["prune", "weight_norm"])
def test_second_derivatives_go_through_what_makes_the_weights(how: str) -> None:
    def found(backend: str) -> list[Tensor]:
        rnn = stack("gru", 2, how, backend=backend)
        x = torch.linspace(-1, 1, 3 * 2 * 3, dtype=torch.double).view(3, 2, 3).requires_grad_()
        (gradient,) = torch.autograd.grad(rnn(x)[0].square().sum(), x, create_graph=True)
        gradient.square().sum().backward()
        return [parameter.grad for parameter in rnn.parameters()]

    torch.testing.assert_close(found("fused"), found("loop"), **EXACT)


def test_a_random_parametrisation_is_drawn_once_in_a_compiled_call() -> None:
    rnn, random = DeepRNN(3, 4, 1, "rnn", backend="loop"), Random()
    parametrize.register_parametrization(rnn.layers[0].cell, "weight_hh", random)
    random.count = 0
    torch.compile(rnn, backend="eager", fullgraph=True)(torch.randn(5, 2, 3))
    assert random.count == 1
