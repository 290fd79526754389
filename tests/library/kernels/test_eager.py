"""Gradients by hand equal the loop's, and take over where no compiler makes the fused kernels."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import environment
from torch.utils._pytree import tree_leaves

from deep_rnn import DeepRNN
from deep_rnn.kernels import compiler, dispatch

CELLS = {"rnn": {}, "relu": {"activation": "relu"}, "lstm": {}, "gru": {}}
LENGTHS = [4, 0, 7, 1, 7]
EXACT = {"rtol": 0.0, "atol": 1e-11}  # float64: only the order of additions differs


def stack(cell, **options):
    """Two layers in float64; the same for the same arguments."""
    torch.manual_seed(0)
    return DeepRNN(3, 4, 2, cell.replace("relu", "rnn"), dtype=torch.double, **CELLS[cell], **options)


def everything(rnn, backend, noise=None, lengths=LENGTHS):
    """Outputs, states and every gradient of a loss that all of them enter with weights of their own."""
    rnn.backend = backend
    torch.manual_seed(1)
    x = torch.randn(7, 5, 3, dtype=torch.double, requires_grad=True)
    state = [torch.randn_like(leaf, requires_grad=True) for leaf in tree_leaves(rnn.initial_state(5))]
    _, spec = torch.utils._pytree.tree_flatten(rnn.initial_state(5))
    results = tree_leaves(rnn(x, torch.utils._pytree.tree_unflatten(state, spec), lengths, noise))
    weights = [torch.linspace(-1, 2, result.numel(), dtype=torch.double).view_as(result) for result in results]
    loss = sum((result * weight).sum() for result, weight in zip(results, weights, strict=True))
    return results, torch.autograd.grad(loss, [x, *state, *rnn.parameters()])


@pytest.mark.parametrize("options", [{"recurrent_dropout": 0.4}, {"weight_drop": 0.4}, {"bias": False}], ids=str)
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one_way", "two_ways"])
@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("cell", CELLS)
def test_equals_the_loop_in_all_gradients(cell, lengths, bidirectional, options):
    rnn = stack(cell, bidirectional=bidirectional, **options)
    noise = rnn.draw_noise(5)
    found, expected = (everything(rnn, backend, noise, lengths) for backend in ("eager", "loop"))
    torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("T, B", [(0, 3), (3, 0), (1, 1)])
@pytest.mark.parametrize("cell", CELLS)
def test_the_smallest_batches_equal_the_loop(cell, T, B):
    rnn, x = stack(cell, bidirectional=True), torch.ones(T, B, 3, dtype=torch.double)
    found, expected = [], []
    for backend, results in (("eager", found), ("loop", expected)):
        rnn.backend = backend
        output, state = rnn(x)
        results += [output, *tree_leaves(state)]
        weights = list(rnn.parameters())
        loss = sum(r.sum() for r in results) + 0 * sum(w.sum() for w in weights)  # no steps: the loop has no graph
        results += torch.autograd.grad(loss, weights)
    torch.testing.assert_close(found, expected, **EXACT)


def test_gradients_hold_by_finite_differences():
    rnn = stack("gru", bidirectional=True, backend="eager")
    x = torch.randn(7, 5, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: rnn(x, lengths=LENGTHS)[0], (x,))


def test_dropout_between_layers_draws_as_the_loop_does():
    rnn, x = stack("gru", dropout=0.5), torch.randn(7, 5, 3, dtype=torch.double)
    outputs = []
    for backend in ("eager", "loop"):
        rnn.backend = backend
        torch.manual_seed(2)
        outputs.append(rnn(x)[0])
    torch.testing.assert_close(*outputs, **EXACT)


def test_an_output_may_be_changed_in_place():
    rnn, x = stack("rnn", backend="eager"), torch.randn(7, 5, 3, dtype=torch.double)
    expected = torch.autograd.grad(2 * rnn(x)[0].sum(), list(rnn.parameters()))
    found = torch.autograd.grad(rnn(x)[0].mul_(2).sum(), list(rnn.parameters()))
    torch.testing.assert_close(found, expected, **EXACT)


@pytest.mark.parametrize("frozen", [False, True], ids=["trained", "frozen"])
def test_second_derivatives_are_refused_naming_loop(frozen):
    rnn = stack("gru", backend="eager").requires_grad_(not frozen)
    x = torch.randn(7, 5, 3, dtype=torch.double, requires_grad=True)
    (gradient,) = torch.autograd.grad(rnn(x)[0].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="backend=loop"):
        gradient.sum().backward()


@pytest.mark.parametrize(
    "options, reason",
    [
        ({"zoneout": 0.1}, "zoneout"),
        ({"candidate_dropout": 0.1}, "candidate"),
        ({"recompute": 2}, "recompute"),
        ({"layer_norm": True}, "no gradients by hand for this GRUCell"),
    ],
)
def test_what_it_cannot_do_is_refused_by_name(options, reason):
    rnn = DeepRNN(3, 4, 1, "gru", backend="eager", **options)
    with pytest.raises(ValueError, match=reason):
        rnn(torch.randn(5, 2, 3))


# --- without a compiler -----------------------------------------------------------------------------------------------


@pytest.fixture
def no_compiler(monkeypatch):
    """``auto`` as it is where the fused kernels could not be compiled."""
    without = dispatch.BACKENDS["fused"]._replace(why_not=lambda call: "the fused kernels did not compile")
    monkeypatch.setitem(dispatch.BACKENDS, "fused", without)


@pytest.mark.parametrize(
    "cell, width, batch, training, backend",
    [
        ("gru", 5, 32, True, "eager"),
        ("gru", 512, 32, True, "native"),
        ("rnn", 512, 32, True, "eager"),
        ("gru", 5, 32, False, "native"),
        ("lstm", 5, 32, True, "native"),
    ],
)
def test_auto_takes_it_where_it_measured_faster_than_native(no_compiler, cell, width, batch, training, backend):
    rnn = DeepRNN(width, width, 2, cell)
    with torch.set_grad_enabled(training):
        explained = rnn.explain(torch.zeros(3, batch, width))
    assert explained.startswith(f"layers 0-1 in one call: {backend} (not fused: the fused kernels did not compile")


def test_auto_takes_it_for_what_native_cannot_do(no_compiler):
    rnn = DeepRNN(3, 4, 2, "lstm", recurrent_dropout=0.1)
    assert rnn.explain().startswith("layers 0-1 in one call: eager")


RUN = """
import torch
from deep_rnn import DeepRNN
rnn = DeepRNN(3, 4, 2, "gru")
rnn(torch.randn(5, 2, 3))[0].sum().backward()
rnn(torch.randn(5, 2, 3))[0].sum().backward()
print(rnn.explain())
"""


def test_no_compiler_means_one_line_and_a_run_all_the_same(tmp_path: Path):
    env = environment(tmp_path) | {"CXX": str(tmp_path / "no-such-compiler"), "TORCH_EXTENSIONS_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", RUN], capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert "no C++ compiler" in line and "no-such-compiler" in line and "plain PyTorch takes over" in line
    assert done.stdout.startswith("layers 0-1 in one call: eager (not fused: the fused kernels did not compile")


def test_a_compiler_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(OSError, match="no C\\+\\+ compiler no-such-compiler"):
        compiler.version()
