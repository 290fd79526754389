"""Hooks on a stack, its layers and its cells do what they do on torch's own modules."""

import copy
import pickle
from collections import Counter

import pytest
import torch
from helpers import BACKENDS
from torch import Tensor, nn
from torch.nn.modules import module as torchs
from torch.nn.utils import prune

from deep_rnn import DeepRNN

EXACT = {"rtol": 1e-9, "atol": 1e-11}
STACKS = {
    "plain": {},
    "two ways": {"bidirectional": True},
    "two ways, summed": {"bidirectional": True, "merge": "sum"},
    "two stacks": {"bidirectional": "stacks"},
    "residual, normed": {"link": "residual", "norm": "layer"},
    "highway": {"link": "highway", "norm": "rms", "norm_place": "post"},
    "dense": {"link": "dense", "batch_first": True},
    "noise": {"dropout": 0.3, "recurrent_dropout": 0.3, "candidate_dropout": 0.2, "weight_drop": 0.3},
    "locked, zoneout": {"dropout": 0.3, "locked_dropout": True, "zoneout": 0.4, "bidirectional": True},
    "learned, recomputed": {"learn_state": True, "recompute": 2, "bidirectional": True},
}


def nothing(*_: object) -> None:
    """A hook that changes nothing."""


def example(rnn: DeepRNN, steps: int = 5, batch: int = 3) -> Tensor:
    x = torch.linspace(-1, 1, steps * batch * rnn.input_size, dtype=torch.double).view(steps, batch, -1)
    return (x.transpose(0, 1) if rnn.batch_first else x).clone().requires_grad_()


def everything(rnn: DeepRNN, **options) -> list[Tensor]:
    """Outputs, states and all gradients of a call, and what the other ways to call a stack give."""
    torch.manual_seed(0)
    rnn.zero_grad()
    x = example(rnn)
    output, state = rnn(x, **options)
    output.square().sum().backward()
    results = [output, *torch.utils._pytree.tree_leaves(state), x.grad, *(one.grad for one in rnn.parameters())]
    results += rnn.layer_outputs(x, **options)[0]
    results += [] if rnn.bidirectional else [rnn.step(x[:, 0] if rnn.batch_first else x[0])[0]]
    return [torch.zeros(0) if one is None else one.detach().clone() for one in results]


def check_same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, **EXACT)


def hooked(module: nn.Module) -> list:
    """Handles of one hook of each kind."""
    kinds = "forward_pre_hook", "forward_hook", "full_backward_pre_hook", "full_backward_hook"
    return [getattr(module, f"register_{kind}")(nothing) for kind in kinds]


def parts(rnn: DeepRNN, where: str) -> list[nn.Module]:
    """The modules of a stack that a test hooks."""
    if where == "stack":
        return [rnn]
    if where == "layer":
        return [rnn.layers[0]]
    if where == "cell":
        return [rnn.layers[1].cells[-1]]
    return [module for module in rnn.modules() if type(module) is not nn.ModuleList]


@pytest.mark.parametrize("given", ["lengths", "lengths and starts"])
@pytest.mark.parametrize("where", ["cell", "all"])
@pytest.mark.parametrize("name", STACKS)
def test_hooks_that_do_nothing_change_nothing(name: str, where: str, given: str) -> None:
    torch.manual_seed(0)
    rnn = DeepRNN(3, 4, 2, "gru", dtype=torch.double, **STACKS[name])
    starts = torch.zeros(5, 3, dtype=torch.bool)
    starts[2, 1] = starts[3, 2] = True
    options: dict[str, object] = {"lengths": [5, 3, 4]}
    options |= {"starts": starts.t() if rnn.batch_first else starts} if "starts" in given else {}
    if rnn.recompute:
        rnn.backend = "loop"
    expected = everything(rnn, **options)
    handles = [handle for module in parts(rnn, where) for handle in hooked(module)]
    check_same(everything(rnn, **options), expected)
    for handle in handles:
        handle.remove()
    check_same(everything(rnn, **options), expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_runs_cells_that_have_hooks(backend: str) -> None:
    rnn = DeepRNN(3, 4, 2, "lstm", bidirectional=True, dtype=torch.double, backend="loop")
    expected = everything(rnn, lengths=[5, 0, 4])
    rnn.backend = backend
    for layer in rnn.layers:
        hooked(layer.cells[1])
    check_same(everything(rnn, lengths=[5, 0, 4]), expected)


@pytest.mark.parametrize("kind", ["forward_pre_hook", "forward_hook", "full_backward_pre_hook", "full_backward_hook"])
@pytest.mark.parametrize("where", ["stack", "layer", "cell", "all"])
def test_hooks_run_once_a_call(where: str, kind: str) -> None:
    rnn = DeepRNN(3, 4, 2, "lstm", bidirectional=True, norm="layer", link="highway", dtype=torch.double)
    counts: Counter[nn.Module] = Counter()
    inside = {id(one) for layer in rnn.layers for cell in layer.cells for one in list(cell.modules())[1:]}
    hooks = [one for one in parts(rnn, where) if not isinstance(one, nn.ParameterList) and id(one) not in inside]
    for module in hooks:
        getattr(module, f"register_{kind}")(lambda module, *_: counts.update([module]))
    rnn(example(rnn))[0].sum().backward()
    assert counts == Counter(hooks)


def test_hooks_see_and_change_what_goes_in_and_comes_out() -> None:
    rnn = DeepRNN(3, 4, 1, "lstm", bidirectional=True, dtype=torch.double)
    x, seen = example(rnn), {}
    plain = rnn(x)[0].detach()
    doubled = rnn(2 * x)[0].detach()
    layer = rnn.layers[0]
    for name, module in {"layer": layer, "forward": layer.cells[0], "backward": layer.cells[1]}.items():
        handle = module.register_forward_hook(lambda _, args, result, name=name: seen.update({name: (args, result)}))
        rnn(x)
        (given, _), (output, state) = seen[name]
        expected = {"layer": plain, "forward": plain[..., :4], "backward": plain[..., 4:]}[name]
        torch.testing.assert_close(given, x, rtol=0, atol=0)
        torch.testing.assert_close(output, expected, **EXACT)
        assert len(state) == 2
        handle.remove()
        handle = module.register_forward_pre_hook(lambda _, args: (2 * args[0], *args[1:]))
        wanted = plain.clone()
        part = {"layer": slice(8), "forward": slice(4), "backward": slice(4, 8)}[name]
        wanted[..., part] = doubled[..., part]
        torch.testing.assert_close(rnn(x)[0], wanted, **EXACT)
        handle.remove()
        handle = module.register_forward_hook(lambda _, __, result: (3 * result[0], result[1]))
        wanted = plain.clone()
        wanted[..., part] *= 3
        torch.testing.assert_close(rnn(x)[0], wanted, **EXACT)
        handle.remove()


@pytest.mark.parametrize("where", ["stack", "layer", "cell"])
def test_backward_hooks_see_and_change_the_gradients_that_torchs_layers_have(where: str) -> None:
    torch.manual_seed(0)
    theirs = nn.LSTM(3, 4).double()
    ours = DeepRNN(3, 4, 1, dtype=torch.double)
    ours.load_state_dict(theirs.state_dict())
    seen = []
    for rnn, module in (
        (theirs, theirs),
        (ours, {"stack": ours, "layer": ours.layers[0], "cell": ours.layers[0].cell}[where]),
    ):
        x = example(ours)
        module.register_full_backward_pre_hook(lambda _, grads: (2 * grads[0], *grads[1:]))
        module.register_full_backward_hook(
            lambda _, into, out: seen.append((into[0], out[0])) or (3 * into[0], *into[1:])
        )
        rnn(x)[0].square().sum().backward()
        seen.append((x.grad, next(rnn.parameters()).grad))
    for one, other in zip(seen[:2], seen[2:], strict=True):
        for a, b in zip(one, other, strict=True):
            torch.testing.assert_close(a, b, **EXACT)


def test_hooks_for_all_modules_see_layers_and_cells() -> None:
    rnn = DeepRNN(3, 4, 2, "gru", dtype=torch.double)
    expected, seen = everything(rnn), []
    handle = torchs.register_module_forward_hook(lambda module, *_: seen.append(type(module).__name__))
    try:
        assert rnn.explain().startswith("layer by layer: there are hooks for all modules\n")
        rnn(example(rnn))
        assert Counter(seen) == Counter(DeepRNN=1, Layer=2, GRUCell=2, NoLink=2, Identity=2)
        check_same(everything(rnn), expected)
    finally:
        handle.remove()
    assert rnn.explain().startswith("layers 0-1 in one call")


def test_explain_names_what_has_hooks_until_it_has_none() -> None:
    rnn = DeepRNN(3, 4, 2, "gru", backend="native")
    assert rnn.explain().startswith("layers 0-1 in one call: native")
    handle = rnn.layers[1].cell.register_forward_hook(nothing)
    first, *lines = rnn.explain().splitlines()
    assert first == "layer by layer: layers.1.cells.0 has hooks"
    assert [line.partition(" (")[0] for line in lines] == ["layer 0: native", "layer 1: native"]
    handle.remove()
    assert rnn.explain().startswith("layers 0-1 in one call: native")


def test_a_forward_put_over_the_class_runs() -> None:
    """As libraries that keep weights elsewhere do it."""
    rnn = DeepRNN(3, 4, 2, "gru", backend="native", dtype=torch.double)
    cell, calls = rnn.layers[0].cell, []
    expected = everything(rnn)
    forward = cell.forward

    def counted(*args, **options):
        calls.append(args)
        return forward(*args, **options)

    cell.forward = counted
    check_same(everything(rnn), expected)
    assert len(calls) == 3  # the call, the outputs of layers, and the step


def test_the_gate_of_a_highway_link_can_be_pruned() -> None:
    rnn = DeepRNN(4, 4, 2, "gru", link="highway", dtype=torch.double)
    prune.identity(rnn.links[1].gate, "weight")
    for _ in range(2):
        rnn(example(rnn))[0].sum().backward()
    with torch.no_grad():
        rnn.links[1].gate.weight_orig.mul_(2)
    like = DeepRNN(4, 4, 2, "gru", link="highway", dtype=torch.double)
    prune.identity(like.links[1].gate, "weight")
    like.load_state_dict(rnn.state_dict())
    prune.remove(like.links[1].gate, "weight")
    torch.testing.assert_close(rnn(example(rnn))[0], like(example(like))[0], **EXACT)


def test_an_x_of_another_dtype_is_refused_unless_a_hook_converts_it() -> None:
    rnn = DeepRNN(3, 4, 2, "gru", dtype=torch.double)
    handle = rnn.layers[0].cell.register_forward_hook(nothing)
    x = example(rnn).float()
    with pytest.raises(ValueError, match=r"x must be torch.float64 as the weights are, not torch.float32"):
        rnn(x)
    handle.remove()
    rnn.layers[0].register_forward_pre_hook(lambda _, args: (args[0].double(), *args[1:]))
    assert rnn(x)[0].dtype == torch.double


def test_hooks_survive_copies_and_pickles() -> None:
    rnn = DeepRNN(3, 4, 2, "gru", dtype=torch.double)
    rnn.layers[0].cell.register_forward_hook(triple)
    expected = everything(rnn)
    for other in (copy.deepcopy(rnn), pickle.loads(pickle.dumps(rnn))):
        check_same(everything(other), expected)


def triple(_module: nn.Module, _arguments: object, result: tuple[Tensor, object]) -> tuple[Tensor, object]:
    return 3 * result[0], result[1]


def test_a_stack_with_hooks_and_pruned_weights_compiles() -> None:
    rnn = DeepRNN(3, 2, 1, "rnn", backend="loop", dtype=torch.double)
    prune.random_unstructured(rnn.layers[0].cell, "weight_hh", 0.5)
    rnn.layers[0].register_forward_hook(triple)
    compiled, x = torch.compile(rnn, backend="eager", fullgraph=True), example(rnn, 2)
    torch.testing.assert_close(compiled(x)[0], rnn(x)[0], **EXACT)
