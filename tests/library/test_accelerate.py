"""deep_rnn.accelerate changes the class of a model's recurrent layers and nothing else, and can be undone."""

import abc
import copy
import pickle

import pytest
import torch
from helpers import needs_fused
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

import deep_rnn


class Tagger(nn.Module):
    """Somebody's model: two recurrent layers among others."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 5)
        self.encoder = nn.LSTM(5, 6, 2, dropout=0.3, bidirectional=True, batch_first=True)
        self.decoders = nn.ModuleList([nn.GRU(12, 4), nn.RNN(4, 3, nonlinearity="relu")])
        self.head = nn.Linear(3, 2)

    def forward(self, ids: Tensor) -> Tensor:
        """Answers of every step."""
        x = self.encoder(self.embedding(ids))[0].transpose(0, 1)
        for decoder in self.decoders:
            x = decoder(x)[0]
        return self.head(x)


class Named(nn.LSTM):
    """A subclass that adds a name."""

    tag = "mine"


class Own(nn.LSTM):
    """A subclass that computes something else."""

    def forward(self, input, hx=None):
        """Twice as much."""
        output, state = super().forward(input, hx)
        return 2 * output, state


IDS = torch.arange(12).reshape(2, 6)


def test_only_the_classes_change_and_restore_brings_them_back():
    torch.manual_seed(0)
    model = Tagger()
    before = dict(model.named_parameters())
    assert deep_rnn.accelerate(model) is model
    assert [type(layer) for layer in (model.encoder, *model.decoders)] == [deep_rnn.LSTM, deep_rnn.GRU, deep_rnn.RNN]
    assert all(type(layer).__module__ == "deep_rnn.drop_in" for layer in (model.encoder, *model.decoders))
    assert type(model.head) is nn.Linear
    assert all(after is before[name] for name, after in model.named_parameters())
    assert deep_rnn.restore(deep_rnn.accelerate(model)) is model  # twice is once
    assert all(type(layer).__module__ == "torch.nn.modules.rnn" for layer in (model.encoder, *model.decoders))


def test_training_goes_the_same_way_from_the_same_seed():
    def losses(accelerated: bool) -> list[float]:
        torch.manual_seed(0)
        model = Tagger().double()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        if accelerated:
            deep_rnn.accelerate(model)  # behind an optimizer that holds the parameters
        found = []
        for _ in range(20):
            optimizer.zero_grad()
            loss = (model(IDS) - 1).square().mean()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    torch.testing.assert_close(losses(True), losses(False), rtol=1e-9, atol=0)


def test_hooks_and_checkpoints_stay():
    model = Tagger().eval()
    calls: list[str] = []
    model.encoder.register_forward_hook(lambda *_: calls.append("forward"))
    model.encoder.register_full_backward_hook(lambda *_: calls.append("backward"))
    keys = list(model.state_dict())
    saved = copy.deepcopy(model.state_dict())
    deep_rnn.accelerate(model)(IDS).sum().backward()
    assert calls == ["forward", "backward"] and list(model.state_dict()) == keys
    fresh = Tagger().eval()
    fresh.load_state_dict(model.state_dict())
    model.load_state_dict(saved)
    torch.testing.assert_close(model(IDS), fresh(IDS))


def test_a_subclass_keeps_what_is_its_own():
    layer = deep_rnn.accelerate(Named(3, 4))
    assert isinstance(layer, Named) and isinstance(layer, deep_rnn.LSTM) and layer.tag == "mine"
    x = torch.randn(5, 2, 3)
    for double in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert type(double) is type(layer)
        assert torch.equal(double(x)[0], layer(x)[0])
    assert type(deep_rnn.restore(layer)) is Named


def test_a_forward_of_somebodys_own_goes_on_to_ours():
    torch.manual_seed(0)
    layer, x = Own(3, 4), torch.randn(5, 2, 3)
    expected = layer(x)[0]
    deep_rnn.accelerate(layer)
    with torch.profiler.profile() as profile:
        torch.testing.assert_close(layer(x)[0], expected)
    assert any(event.name == "deep_rnn::unroll" for event in profile.events())
    assert type(deep_rnn.restore(layer)) is Own


class Abstract(abc.ABC, nn.RNNBase):
    """A base with a metaclass of its own."""

    @abc.abstractmethod
    def kind(self) -> str:
        """What it is."""


class Concrete(Abstract, nn.GRU):
    """What is made of it."""

    def kind(self) -> str:
        """See the base."""
        return "mine"


def test_a_subclass_with_a_metaclass_of_its_own_is_accelerated():
    layer = deep_rnn.accelerate(Concrete(3, 4))
    assert isinstance(layer, deep_rnn.GRU) and layer.kind() == "mine" and isinstance(type(layer), abc.ABCMeta)
    assert type(deep_rnn.restore(layer)) is Concrete


@needs_fused
def test_fx_sees_a_leaf():
    model = deep_rnn.accelerate(Tagger().eval())
    graph = torch.fx.symbolic_trace(model)
    assert [node.target for node in graph.graph.nodes if node.op == "call_module"][1] == "encoder"
    torch.testing.assert_close(graph(IDS), model(IDS))


def orthogonal(layer: nn.Module) -> None:
    """By torch.nn.utils.parametrizations."""
    parametrizations.orthogonal(layer, "weight_hh_l0")


class LowRank(nn.Module):
    """W + a b, as LoRA has it."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.full((rows, 2), 0.1)), nn.Parameter(torch.full((2, columns), 0.1))

    def forward(self, weight: Tensor) -> Tensor:
        """See the class."""
        return weight + self.a @ self.b


ALTERATIONS = {
    "weight_norm, old": lambda layer: weight_norm(layer, "weight_hh_l0"),
    "weight_norm": lambda layer: parametrizations.weight_norm(layer, "weight_hh_l0"),
    "spectral_norm, old": lambda layer: spectral_norm(layer, "weight_hh_l0"),
    "spectral_norm": lambda layer: parametrizations.spectral_norm(layer, "weight_hh_l0"),
    "orthogonal": orthogonal,
    "low rank": lambda layer: parametrize.register_parametrization(layer, "weight_hh_l0", LowRank(16, 4), unsafe=True),
    "prune": lambda layer: prune.random_unstructured(layer, "weight_hh_l0", 0.5),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
@pytest.mark.parametrize("late", [False, True], ids=["altered before", "altered after"])
@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_training_an_altered_weight_is_torchs(alteration: str, late: bool):
    def trained(accelerated: bool) -> list[Tensor]:
        torch.manual_seed(0)
        layer, x = nn.LSTM(3, 4, 2, dropout=0.2).double(), torch.randn(6, 2, 3).double()
        torch.manual_seed(1)
        if late and accelerated:
            deep_rnn.accelerate(layer)
        ALTERATIONS[alteration](layer)
        if accelerated:
            deep_rnn.accelerate(layer)
        assert isinstance(layer, deep_rnn.LSTM) == accelerated
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
        outputs = []
        for _ in range(5):
            optimizer.zero_grad()
            output, _ = layer(x)
            output.square().sum().backward()
            optimizer.step()
            outputs.append(output.detach())
        if accelerated:
            deep_rnn.restore(layer)
            assert not isinstance(layer, deep_rnn.LSTM)
        outputs.append(layer.eval()(x)[0].detach())
        return outputs

    for one, other in zip(trained(True), trained(False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def test_a_parametrisation_can_be_taken_off_again():
    layer = nn.GRU(3, 4)
    orthogonal(layer)
    deep_rnn.accelerate(layer)
    parametrize.remove_parametrizations(layer, "weight_hh_l0")
    assert type(layer) is deep_rnn.GRU


def test_explain_says_what_runs_each_layer_and_why():
    model = Tagger()
    assert "deep_rnn.accelerate has not been called" in deep_rnn.explain(model)
    model.stack = deep_rnn.DeepRNN(3, 4, cell="lem")
    model.small = nn.LSTM(3, 4, proj_size=2)
    model.cell = nn.GRUCell(3, 4)
    lines = dict(line.split(": ", 1) for line in deep_rnn.explain(deep_rnn.accelerate(model)).splitlines())
    assert list(lines) == ["encoder", "decoders.0", "decoders.1", "stack", "small", "cell"]
    assert lines["cell"].startswith("fused") and type(model.cell) is deep_rnn.GRUCell
    assert "proj_size" in lines["small"] and lines["small"].startswith("torch.nn")
    assert "bfloat16" in deep_rnn.explain(model.encoder.bfloat16())
    assert deep_rnn.explain(nn.Linear(2, 2)) == "Linear has no recurrent layer of torch.nn or deep_rnn"
