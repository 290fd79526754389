"""torch.compile takes a stack whole, without a graph break, and changes neither results nor gradients."""

import pytest
import torch
from torch.nn.utils.rnn import pack_padded_sequence
from torch.utils._pytree import tree_leaves

import deep_rnn
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


@pytest.mark.parametrize("backend", ["loop", "fused"])
def test_zoneout_compiles_and_keeps_the_old_value_as_often_as_it_says(backend):
    rnn = DeepRNN(INPUT, 1000, 1, "rnn", zoneout=0.3, backend=backend)
    x = torch.randn(2, 20, INPUT, requires_grad=True)
    output, _ = torch.compile(rnn, fullgraph=True, backend="aot_eager")(x)
    output.sum().backward()
    held = (output[1] == output[0]).double().mean().item()
    assert abs(held - 0.3) < 0.017  # five standard deviations of a mean over 20 * 1000 draws


@pytest.mark.parametrize("options", [{}, {"dropout": 1.0}], ids=["plain", "dropout"])
def test_an_lstm_by_torchs_own_layers_trains_in_a_graph_where_x_has_no_gradient(options):
    torch.manual_seed(0)
    rnn = DeepRNN(
        INPUT, HIDDEN, 2, "lstm", backend="native", **options
    )  # float32: oneDNN's, which has no such gradient
    x = torch.randn(TIME, BATCH, INPUT)

    def gradients(call):
        return torch.autograd.grad(call(x)[0].square().sum(), rnn.layers[0].cell.weight_hh, materialize_grads=True)

    torch.testing.assert_close(gradients(torch.compile(rnn, fullgraph=True, backend="aot_eager")), gradients(rnn))


def packed(x):
    """Sequences of lengths 2, 4 and 1."""
    return pack_padded_sequence(x, torch.tensor([2, 4, 1]), enforce_sorted=False)


@pytest.mark.parametrize("backend", ["native", "fused"])
def test_a_packed_sequence_compiles_whole(backend):
    rnn = stack(backend=backend, cell="gru", bidirectional=True)
    x = packed(torch.randn(TIME, BATCH, INPUT, dtype=torch.double))
    output, state = torch.compile(rnn, fullgraph=True, backend="aot_eager")(x)
    expected, expected_state = rnn(x)
    assert all(map(torch.equal, output[1:], expected[1:]))
    torch.testing.assert_close([output.data, *tree_leaves(state)], [expected.data, *tree_leaves(expected_state)])


@pytest.mark.parametrize(
    ("kind", "form"), [("LSTM", "plain"), ("RNN", "lengths"), ("GRU", "packed"), ("LSTM", "batch_first")]
)
def test_drop_in_layers_compile_whole_where_torch_is_told_to_take_them(kind, form):
    torch.manual_seed(0)
    first = form == "batch_first"
    layer = getattr(deep_rnn, kind)(INPUT, HIDDEN, 2, bidirectional=True, batch_first=first, dtype=torch.double)
    x = torch.randn(TIME, BATCH, INPUT, dtype=torch.double, requires_grad=True)
    asked = {"lengths": LENGTHS} if form == "lengths" else {}

    def found(call):
        results = tree_leaves(call(packed(x) if form == "packed" else x, **asked))
        floats = [value for value in results if value.is_floating_point()]
        weights = [x, *layer.parameters()]
        return floats, torch.autograd.grad(sum(value.sin().sum() for value in floats), weights)

    # Without `allow_rnn` torch.compile leaves every subclass of torch.nn's recurrent layers out of its graphs.
    with torch._dynamo.config.patch(allow_rnn=True):
        torch.testing.assert_close(found(torch.compile(layer, fullgraph=True, backend="aot_eager")), found(layer))


@pytest.mark.parametrize("form", ["dropout", "packed", "starts"])
def test_drop_in_layers_compile_beside_the_graph_as_torchs_do(form):
    layer = deep_rnn.LSTM(INPUT, HIDDEN, 2, dropout=0.5, dtype=torch.double).train(form == "dropout")
    compiled = torch.compile(layer, backend="aot_eager")
    x = torch.randn(TIME, BATCH, INPUT, dtype=torch.double, requires_grad=True)
    starts = {"starts": torch.ones(TIME, BATCH, dtype=torch.bool)} if form == "starts" else {}
    given = packed(x) if form == "packed" else x
    output, _ = compiled(given, **starts)
    output = output.data if form == "packed" else output
    assert torch.autograd.grad(output.sum(), x)[0].count_nonzero()
    if form == "dropout":
        assert not torch.equal(output, compiled(x)[0])
    else:
        again = layer(given, **starts)[0]
        torch.testing.assert_close(output, again.data if form == "packed" else again)


@pytest.mark.parametrize("form", ["plain", "packed"])
def test_what_goes_to_torchs_own_function_keeps_its_dropout_in_a_graph(form):
    torch.manual_seed(0)
    layer = deep_rnn.LSTM(INPUT, HIDDEN, 3, dropout=1.0, proj_size=2, bidirectional=True, dtype=torch.double)
    x = torch.randn(TIME, BATCH, INPUT, dtype=torch.double)
    given = packed(x) if form == "packed" else x
    found, expected = torch.compile(layer, backend="aot_eager")(given), layer(given)
    floats = [[one for one in tree_leaves(results) if one.is_floating_point()] for results in (found, expected)]
    torch.testing.assert_close(*floats)


@pytest.mark.parametrize("kind", ["LSTMCell", "GRUCell"])
def test_drop_in_cells_compile_whole(kind):
    cell = getattr(deep_rnn, kind)(INPUT, HIDDEN, dtype=torch.double)
    x = torch.randn(BATCH, INPUT, dtype=torch.double)
    torch.testing.assert_close(torch.compile(cell, fullgraph=True, backend="aot_eager")(x), cell(x))


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


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"zoneout": 0.3}, {"dropout": 0.5}, {"dropout": 0.5, "backend": "native"}])
def test_generated_code_trains_with_noise(options):
    rnn = DeepRNN(INPUT, HIDDEN, 2, "lstm", **options)
    x = torch.randn(TIME, BATCH, INPUT)
    compiled = torch.compile(rnn, fullgraph=True)
    one, two = compiled(x)[0], compiled(x)[0]
    assert not torch.equal(one, two)
    one.sum().backward()
    assert all(weight.grad.isfinite().all() and weight.grad.count_nonzero() for weight in rnn.parameters())
