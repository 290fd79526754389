"""torch.compile takes a stack whole, without a graph break, and changes neither results nor gradients."""

import pytest
import torch
from torch.utils._pytree import tree_leaves

from deep_rnn import DeepRNN

TIME, BATCH, INPUT, HIDDEN = 4, 3, 3, 4
LENGTHS = torch.tensor([4, 0, 2])
STACKS = {
    "loop": {"backend": "loop", "cell": ["gru", "janet"], "link": "highway", "bidirectional": True, "norm": "rms"},
    "loop, recomputing": {"backend": "loop", "cell": "lstm", "recompute": 2},
    "native": {"backend": "native", "cell": "lstm", "link": "residual"},
    "native, both ways": {"backend": "native", "cell": "gru", "bidirectional": True},
    "fused": {"backend": "fused", "cell": "gru", "bidirectional": True},
    "auto": {"backend": "auto", "cell": ["lstm", "janet"], "link": "dense"},
    "scan": {"backend": "scan", "cell": ["mgu", "lstm"]},
}


@pytest.fixture(autouse=True)
def forget_graphs():
    """What one test compiled is none of the next one's business."""
    torch._dynamo.reset()


def stack(num_layers=2, **options):
    torch.manual_seed(0)
    return DeepRNN(INPUT, HIDDEN, num_layers, dtype=torch.double, **options)


def results(call, rnn, time=TIME):
    """Outputs, states and all gradients of a call with lengths."""
    torch.manual_seed(1)
    x = torch.randn(time, BATCH, INPUT, dtype=torch.double, requires_grad=True)
    found = tree_leaves(call(x, lengths=LENGTHS))
    return [*found, *torch.autograd.grad(sum(value.sin().sum() for value in found), [x, *rnn.parameters()])]


@pytest.mark.parametrize("name", STACKS)
def test_compiled_whole_equals_eager_forward_and_backward(name):
    rnn = stack(**STACKS[name])
    found = results(torch.compile(rnn, fullgraph=True, backend="aot_eager"), rnn)
    rnn.backend = "loop"
    torch.testing.assert_close(found, results(rnn, rnn), rtol=0, atol=1e-12)


def test_masks_drawn_in_training_compile_and_drop():
    rnn = stack(backend="loop", cell="gru", dropout=0.5, locked_dropout=True, recurrent_dropout=0.3, weight_drop=0.3)
    compiled = torch.compile(rnn, fullgraph=True, backend="aot_eager")
    x = torch.randn(TIME, BATCH, INPUT, dtype=torch.double)
    one, two = compiled(x)[0], compiled(x)[0]
    assert not torch.equal(one, two)
    torch.testing.assert_close(compiled(x, noise=(noise := rnn.draw_noise(BATCH)))[0], rnn(x, noise=noise)[0])


def test_scan_compiles_once_for_all_lengths_of_time():
    rnn = stack(1, backend="scan", cell="gru")
    compiled = torch.compile(rnn, fullgraph=True, backend="aot_eager", dynamic=True)
    results(compiled, rnn, time=5)
    with torch.compiler.set_stance("fail_on_recompile"):
        found = results(compiled, rnn, time=9)
    rnn.backend = "loop"
    torch.testing.assert_close(found, results(rnn, rnn, time=9), rtol=0, atol=1e-12)


def test_a_compiled_stack_cannot_be_differentiated_twice():
    rnn = stack(1, backend="loop", cell="rnn")
    x = torch.randn(2, 1, INPUT, dtype=torch.double, requires_grad=True)
    output = torch.compile(rnn, fullgraph=True, backend="aot_eager")(x)[0].square().sum()
    (gradient,) = torch.autograd.grad(output, x, create_graph=True)
    with pytest.raises(RuntimeError, match="does not currently support double backward"):
        torch.autograd.grad(gradient.sum(), x)


@pytest.mark.slow
def test_generated_code_computes_the_same():
    rnn = stack(1, backend="loop", cell="rnn")
    found = results(torch.compile(rnn, fullgraph=True), rnn)
    torch.testing.assert_close(found, results(rnn, rnn), rtol=0, atol=1e-12)
