"""deep_rnn.LSTM, GRU and RNN are torch.nn's: equal numbers, gradients, draws and errors, on other kernels."""

import abc
import copy
import itertools
import pickle
from pathlib import Path

import pytest
import torch
from helpers import needs_fused
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence

import deep_rnn
from deep_rnn import torch_calls

LAYERS = {"LSTM": deep_rnn.LSTM, "GRU": deep_rnn.GRU, "RNN": deep_rnn.RNN}
TIME, BATCH, INPUT, HIDDEN = 7, 4, 5, 6
OPTIONS = [
    {},
    {"num_layers": 3},
    {"num_layers": 2, "bidirectional": True},
    {"batch_first": True, "bias": False},
    {"num_layers": 3, "dropout": 0.4},
    {"num_layers": 2, "dropout": 0.4, "bidirectional": True, "batch_first": True},
    {"num_layers": 2, "dropout": 1.0},
]
FORMS = ["padded", "unbatched", "packed", "packed, sorted", "packed, one length"]
LENGTHS = {"packed": [3, 7, 2, 4], "packed, sorted": [7, 5, 5, 1], "packed, one length": [7] * 4}


def twins(name: str, options: dict) -> tuple[nn.RNNBase, nn.RNNBase]:
    """torch.nn's layer and ours, with the same weights, in float64."""
    torch.manual_seed(0)
    theirs = getattr(nn, name)(INPUT, HIDDEN, **options, dtype=torch.float64)
    ours = LAYERS[name](INPUT, HIDDEN, **options, dtype=torch.float64)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def example(layer: nn.RNNBase, form: str, state: bool) -> tuple[Tensor, object, object]:
    """An x that wants a gradient, what a layer is called with, and a state or none."""
    torch.manual_seed(1)
    first = layer.batch_first and form != "unbatched"
    shape = (TIME, INPUT) if form == "unbatched" else (BATCH, TIME, INPUT) if first else (TIME, BATCH, INPUT)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    places = layer.num_layers * (1 + layer.bidirectional)
    sizes = (places, HIDDEN) if form == "unbatched" else (places, BATCH, HIDDEN)
    h, c = torch.randn(2, *sizes, dtype=torch.float64)
    hx = None if not state else (h, c) if isinstance(layer, nn.LSTM) else h
    if form not in LENGTHS:
        return x, x, hx
    return x, pack_padded_sequence(x, LENGTHS[form], first, enforce_sorted=form != "packed"), hx


def everything(layer: nn.RNNBase, form: str, state: bool) -> list[Tensor]:
    """Output, last states, and the gradients by x and all parameters."""
    x, given, hx = example(layer, form, state)
    torch.manual_seed(2)  # of dropout
    output, ended = layer(given, hx)
    output = output.data if isinstance(output, PackedSequence) else output
    ended = ended if isinstance(ended, tuple) else (ended,)
    loss = output.square().sum() + sum(one.pow(3).sum() for one in ended)
    return [output, *ended, *torch.autograd.grad(loss, [x, *layer.parameters()])]


@pytest.mark.parametrize("state", [False, True], ids=["from zeros", "from a state"])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_everything_is_torchs_dropout_included(name: str, options: dict, form: str, state: bool):
    theirs, ours = twins(name, options)
    for one, other in zip(everything(theirs, form, state), everything(ours, form, state), strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-10)
        assert other.stride() == one.stride() or one.numel() < 2


@needs_fused
@pytest.mark.parametrize("name", LAYERS)
def test_it_is_the_fused_kernels_that_run(name: str):
    _, ours = twins(name, {"num_layers": 2, "dropout": 0.5})
    with torch.profiler.profile() as profile:
        ours(torch.randn(TIME, BATCH, INPUT, dtype=torch.float64))
    assert [event.name for event in profile.events() if event.name.startswith("deep_rnn::")] == ["deep_rnn::unroll"]


@pytest.mark.parametrize("name", LAYERS)
def test_what_the_kernels_cannot_do_is_torchs(name: str):
    torch.manual_seed(0)
    half = LAYERS[name](INPUT, HIDDEN, dtype=torch.bfloat16)
    x = torch.randn(TIME, BATCH, INPUT, dtype=torch.bfloat16)
    assert torch.equal(half(x)[0], half.torchs.forward(half, x)[0])
    layer = LAYERS[name](INPUT, HIDDEN)
    on_meta = copy.deepcopy(layer).to("meta")
    assert on_meta(torch.empty(TIME, BATCH, INPUT, device="meta"))[0].shape == (TIME, BATCH, HIDDEN)
    with torch.autocast("cpu"):
        x = torch.randn(TIME, BATCH, INPUT)
        assert torch.equal(layer(x)[0], layer.torchs.forward(layer, x)[0])


def test_a_projection_is_torchs():
    torch.manual_seed(0)
    layer, x = deep_rnn.LSTM(INPUT, HIDDEN, proj_size=3), torch.randn(TIME, BATCH, INPUT)
    assert torch.equal(layer(x)[0], nn.LSTM.forward(layer, x)[0])
    assert layer(x, lengths=[7, 3, 0, 1])[1][0].shape == (1, BATCH, 3)


@pytest.mark.parametrize(
    "call",
    [
        lambda layer: layer(torch.randn(2, 3, 4, INPUT)),
        lambda layer: layer(torch.randn(TIME, BATCH, INPUT + 1)),
        lambda layer: layer(torch.randn(TIME, BATCH, INPUT).double()),
        lambda layer: layer(torch.randn(0, BATCH, INPUT)),
        lambda layer: layer(torch.randn(TIME, BATCH, INPUT), torch.zeros(1, BATCH + 1, HIDDEN)),
        lambda layer: layer(torch.randn(TIME, BATCH, INPUT), torch.zeros(1, BATCH, HIDDEN).double()),
        lambda layer: layer(torch.randn(TIME, INPUT), torch.zeros(1, BATCH, HIDDEN)),
        lambda layer: type(layer)(INPUT, HIDDEN, dropout=1.5),
        lambda layer: type(layer)(INPUT, HIDDEN, batch_first="False"),
        lambda layer: type(layer)(0, HIDDEN),
    ],
)
def test_errors_are_torchs(call):
    words = []
    for cls in (nn.GRU, deep_rnn.GRU):
        with pytest.raises((RuntimeError, ValueError, TypeError)) as refused:
            call(cls(INPUT, HIDDEN))
        words.append((refused.type, str(refused.value)))
    assert words[0] == words[1]


@pytest.mark.parametrize("name", LAYERS)
def test_derivatives_of_every_order_and_both_modes_are_torchs(name: str):
    theirs, ours = twins(name, {"num_layers": 2})
    x = torch.randn(3, 2, INPUT, dtype=torch.float64)

    def loss(layer: nn.RNNBase):
        return lambda x: layer(x)[0].pow(3).sum()

    for transform in (torch.autograd.functional.hessian, torch.autograd.functional.jacobian):
        torch.testing.assert_close(transform(loss(ours), x), transform(loss(theirs), x), rtol=1e-9, atol=1e-10)
    _, along = torch.func.jvp(loss(ours), (x,), (torch.ones_like(x),))
    torch.testing.assert_close(along, torch.func.grad(loss(theirs))(x).sum(), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_gradients_in_batches_are_torchs(name: str):
    theirs, ours = twins(name, {"num_layers": 2, "bidirectional": True})
    x, found = torch.randn(3, 2, INPUT, dtype=torch.float64), []
    for layer in (theirs, ours):
        output = layer(x)[0]
        torch.manual_seed(2)
        along = torch.randn(7, *output.shape, dtype=torch.float64)
        found.append(torch.autograd.grad(output, list(layer.parameters()), along, is_grads_batched=True))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-10)
    assert torch.autograd.gradcheck(lambda x: ours(x)[0], x.requires_grad_(), check_batched_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: ours(x)[0].sum(0), x, check_batched_grad=True)


def test_no_units_are_torchs_business():
    state = (torch.randn(3, 0), torch.randn(3, 0))
    assert deep_rnn.LSTMCell(10, 0)(torch.randn(3, 10), state)[0].shape == (3, 0)


@pytest.mark.parametrize("name", LAYERS)
def test_dropout_may_be_set_at_any_time(name: str):
    theirs, ours = twins(name, {"num_layers": 2})
    for rate in (0.5, 0.0):
        theirs.dropout = ours.dropout = rate
        for one, other in zip(everything(theirs, "padded", False), everything(ours, "padded", False), strict=True):
            torch.testing.assert_close(other, one, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", LAYERS)
def test_it_is_torchs_to_whoever_asks(name: str):
    theirs, ours = twins(name, {"num_layers": 2})
    cls, torchs = type(ours), type(theirs)
    assert not isinstance(theirs, cls) and not issubclass(torchs, cls) and isinstance(ours, cls)
    assert isinstance(ours, torchs) and cls == torchs and torchs == cls and {torchs: 1}[cls] == 1 and cls is not torchs
    assert cls != nn.Linear and cls not in {other for other in LAYERS.values() if other is not cls}
    assert repr(ours) == repr(theirs) and list(ours.state_dict()) == list(theirs.state_dict())
    for double in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert type(double) is cls
        assert torch.equal(double(torch.ones(3, 2, INPUT).double())[0], ours(torch.ones(3, 2, INPUT).double())[0])
    ours.flatten_parameters()


class Model(nn.Module):
    """What torch.jit compiles: it takes no overloaded ``forward`` at the top."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Output of the layer."""
        output, _ = self.layer(x)
        return output


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", LAYERS)
def test_jit_quantisation_and_the_older_onnx_exporter_see_torchs_layer(name: str, tmp_path: Path):
    torch.manual_seed(0)
    model, x = Model(LAYERS[name](INPUT, HIDDEN, 2)).eval(), torch.randn(TIME, BATCH, INPUT)
    expected = model(x)
    torch.testing.assert_close(torch.jit.script(model)(x), expected)
    traced = torch.jit.trace(model, x, check_trace=True)
    torch.testing.assert_close(traced(x), expected)
    assert any(node.kind().startswith("aten::") for node in traced.layer.graph.nodes())
    if name != "RNN":  # which torch's quantisation does not know either
        quantised = torch.ao.quantization.quantize_dynamic(model)
        assert "Quantized" in repr(quantised.layer)
    assert type(model.layer) is getattr(nn, name)  # torch.jit.script leaves what it was given
    deep_rnn.accelerate(model)
    pytest.importorskip("onnx")
    torch.onnx.export(model, (x,), str(tmp_path / "model.onnx"), dynamo=False)


def test_a_layer_can_be_traced_by_itself_and_stand_beside_an_abstract_class():
    class Base(abc.ABC, nn.RNNBase):
        pass

    class Mixed(Base, deep_rnn.RNN):
        pass

    layer, x = Mixed(7, 5), torch.randn(4, 2, 7)
    assert isinstance(layer, nn.RNN)
    torch.testing.assert_close(torch.jit.trace(deep_rnn.RNN(7, 5), x, strict=False)(x)[0].shape, layer(x)[0].shape)


def test_a_compiled_model_computes_the_same():
    torch.manual_seed(0)
    model, x = Model(deep_rnn.LSTM(INPUT, HIDDEN, 2)), torch.randn(TIME, BATCH, INPUT)
    torch.testing.assert_close(torch.compile(model, backend="aot_eager")(x), model(x))


@pytest.mark.parametrize("hidden", [6, 130])
@pytest.mark.parametrize("bias", [True, False], ids=["biases", "no biases"])
@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell"])
def test_cells_are_torchs(name: str, bias: bool, hidden: int):
    torch.manual_seed(0)
    theirs = getattr(nn, name)(INPUT, hidden, bias=bias, dtype=torch.float64)
    ours = getattr(deep_rnn, name)(INPUT, hidden, bias=bias, dtype=torch.float64)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(BATCH, INPUT, dtype=torch.float64, requires_grad=True)
    found = []
    for module in (theirs, ours):
        state = None
        for _ in range(3):
            state = module(x, state)
        results = state if isinstance(state, tuple) else (state,)
        loss = sum(one.pow(2).sum() for one in results)
        gradients = torch.autograd.grad(loss, [x, *module.parameters()], create_graph=True)
        twice = torch.autograd.grad(gradients[0].square().sum(), x)
        with torch.no_grad():
            quiet = module(x[0])  # one row
        found.append([*results, *gradients, *twice, *(quiet if isinstance(quiet, tuple) else (quiet,))])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=1e-10)
    assert isinstance(ours, type(theirs)) and type(theirs) in {type(ours)} and repr(ours) == repr(theirs)


@pytest.mark.parametrize("usable", [True, False], ids=["on our kernels", "on torch's"])
@pytest.mark.parametrize("options", [{}, {"num_layers": 2, "bidirectional": True}, {"batch_first": True}], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_lengths_do_what_packing_does(name: str, options: dict, usable: bool, monkeypatch: pytest.MonkeyPatch):
    theirs, ours = twins(name, options)
    if not usable:
        monkeypatch.setattr(torch_calls, "why_torch", lambda asked: "not today")
    lengths = torch.tensor([3, 7, 0, 4])
    x, given, hx = example(ours, "padded", True)
    output, ended = ours(given, hx, lengths)
    spoilt = x.detach().clone()
    for row, length in enumerate(lengths):
        (spoilt[row, length:] if ours.batch_first else spoilt[length:, row]).fill_(torch.nan)
    assert torch.equal(ours(spoilt, hx, lengths)[0], output)
    for row, length in enumerate(lengths):
        own = (lambda t: t[row, :length]) if ours.batch_first else (lambda t: t[:length, row])  # noqa: B023
        state = tuple(h[:, row] for h in hx) if isinstance(hx, tuple) else hx[:, row]
        after = tuple(h[:, row] for h in ended) if isinstance(ended, tuple) else ended[:, row]
        expected, expected_state = (own(x)[:, :0], state) if length == 0 else theirs(own(x), state)
        if length:
            torch.testing.assert_close(own(output), expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(after, expected_state, rtol=0, atol=1e-10)
        assert not (output[row, length:] if ours.batch_first else output[length:, row]).any()


@pytest.mark.parametrize("both", [False, True], ids=["one way", "both ways"])
@pytest.mark.parametrize("name", LAYERS)
def test_a_sequence_begins_anew_where_starts_says_so(name: str, both: bool):
    theirs, ours = twins(name, {"num_layers": 2, "bidirectional": both})
    x, given, hx = example(ours, "padded", True)
    starts = torch.tensor(
        [[0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 0]]
    )
    output, ended = ours(given, hx, starts=starts.bool())
    gradients = torch.autograd.grad(output.square().sum(), [x, *ours.parameters()])
    found = []
    for row in range(BATCH):
        cuts = [0, *(t for t in range(1, TIME) if starts[t, row]), TIME]
        state = hx if isinstance(hx, tuple) else (hx,)
        zero = tuple(torch.zeros_like(h[:, row]) for h in state)
        given_state = tuple(h[:, row] for h in state)
        pieces, states = [], []
        for begin, end in itertools.pairwise(cuts):
            goes_on = begin == 0 and not starts[0, row]
            last = end == TIME
            pick = [goes_on, last] * 2 if both else [goes_on] * 2  # the backward direction goes on from the end
            first = tuple(
                torch.stack([(one if use else none) for one, none, use in zip(g, z, pick, strict=True)])
                for g, z in zip(given_state, zero, strict=True)
            )
            piece, after = theirs(x[begin:end, row], first if len(first) == 2 else first[0])
            pieces.append(piece)
            states.append(after if isinstance(after, tuple) else (after,))
        found.append(torch.cat(pieces))
        ours_after = ended if isinstance(ended, tuple) else (ended,)
        for field, mine in enumerate(ours_after):
            for place in range(mine.shape[0]):
                source = states[0] if both and place % 2 else states[-1]
                torch.testing.assert_close(mine[place, row], source[field][place], rtol=0, atol=1e-10)
    expected = torch.stack(found, 1)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-10)
    truth = torch.autograd.grad(expected.square().sum(), [x, *theirs.parameters()])
    for one, other in zip(gradients, truth, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"lengths": [1, 2]}, "lengths must have shape"),
        ({"lengths": [1, 2, 3, 8]}, "lengths must be from 0 to 7"),
        ({"starts": torch.zeros(TIME, BATCH)}, "starts must be"),
        ({"starts": torch.zeros(BATCH, TIME).bool()}, "starts must be"),
    ],
)
def test_lengths_and_starts_that_do_not_fit_are_refused_in_one_line(arguments: dict, words: str):
    with pytest.raises(ValueError, match=words) as refused:
        deep_rnn.GRU(INPUT, HIDDEN)(torch.zeros(TIME, BATCH, INPUT), **arguments)
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="padded batch"):
        deep_rnn.GRU(INPUT, HIDDEN)(pack_sequence([torch.zeros(3, INPUT)]), lengths=[3])
