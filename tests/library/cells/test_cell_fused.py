"""Every cell that the fused kernels know, under every option, against the loop: outputs, states and all gradients."""

import pytest
import torch
from cell_cases import CASES, Case
from helpers import needs_fused
from torch.utils._pytree import tree_leaves, tree_map

from deep_rnn import DeepRNN
from deep_rnn.cells import CELLS
from deep_rnn.kernels import Call, pick

pytestmark = needs_fused

FUSED = [case for case in CASES if case.build().layers[0].cell.fused_mode]
NOISES = {
    "plain": {},
    "no_bias": {"bias": False},
    "zoneout": {"zoneout": 0.3},
    "masks": {"recurrent_dropout": 0.3, "candidate_dropout": 0.3},
    "everything": {"zoneout": 0.2, "recurrent_dropout": 0.2, "candidate_dropout": 0.2, "weight_drop": 0.2},
}
SIZES = {
    "small": (6, 3, 5),
    "wide": (4, 9, 37),
    "one": (1, 1, 1),
    "no_steps": (0, 2, 4),
    "no_rows": (3, 0, 4),
}  # T, B, H
MASKS = {"state": "recurrent_dropout", "candidate": "candidate_dropout"}
TOLERANCE = {torch.double: 1e-10, torch.float: 5e-5}

every_case = pytest.mark.parametrize("case", FUSED, ids=str)


def build(case: Case, size: int, **options) -> DeepRNN:
    """A layer of the cell with weights that are not small, without the kinds of noise that mean nothing to it."""
    cell = case.build().layers[0].cell
    senseless = {option for noise, option in MASKS.items() if noise not in cell.noises}
    senseless |= set() if cell.recurrent_weights else {"weight_drop"}
    torch.manual_seed(0)
    rnn = case.build(size, **{name: value for name, value in options.items() if name not in senseless})
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return rnn


def outcome(rnn, x, state, lengths, backend):
    """Outputs, states and gradients, all from the same random numbers."""
    rnn.backend = backend
    torch.manual_seed(1)
    leaves = [x.detach().requires_grad_(), *(value.detach().requires_grad_() for value in tree_leaves(state))]
    values = iter(leaves[1:])
    output, ended = rnn(leaves[0], tree_map(lambda _: next(values), state), lengths)
    loss = (output * output.sin()).sum() + sum((value * value).sum() for value in tree_leaves(ended))
    parameters = list(rnn.parameters())
    grads = torch.autograd.grad(loss, [*leaves, *parameters], allow_unused=True, materialize_grads=True)
    return [output.detach(), *(value.detach() for value in tree_leaves(ended)), *grads]


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        size = 1 + (other.abs().max().item() if other.numel() else 0)
        torch.testing.assert_close(one, other, rtol=0, atol=TOLERANCE[other.dtype] * size)


def warm(rnn, batch):
    """A state that is nowhere zero."""
    return tree_map(lambda value: 0.5 + torch.rand_like(value), rnn.initial_state(batch))


@every_case
@pytest.mark.parametrize("bidirectional", [False, True], ids=["one_way", "both_ways"])
@pytest.mark.parametrize("noise", NOISES)
def test_noise_lengths_and_directions_equal_the_loop(case, noise, bidirectional):
    time, batch, size = SIZES["small"]
    rnn = build(case, size, bidirectional=bidirectional, **NOISES[noise])
    x = torch.randn(time, batch, 3, dtype=torch.double)
    for training in (True, False):
        rnn.train(training)
        for lengths in (None, [6, 0, 3]):
            arguments = x, warm(rnn, batch), lengths
            assert_same(outcome(rnn, *arguments, "fused"), outcome(rnn, *arguments, "loop"))


@every_case
@pytest.mark.parametrize("dtype", [torch.double, torch.float], ids=str)
@pytest.mark.parametrize("sizes", SIZES)
def test_all_sizes_equal_the_loop(case, sizes, dtype):
    time, batch, size = SIZES[sizes]
    if case.options.get("heads") or size < case.options.get("proj_size", 1):
        size = max(4, size)
    rnn = build(case, size, zoneout=0.2, recurrent_dropout=0.2, dtype=dtype)
    x = torch.randn(batch, 3, time, dtype=dtype).permute(2, 0, 1)  # features do not lie side by side
    arguments = x, warm(rnn, batch), None
    assert_same(outcome(rnn, *arguments, "fused"), outcome(rnn, *arguments, "loop"))


@every_case
def test_nan_and_infinity_come_out_where_the_loop_has_them(case):
    rnn = build(case, 5).eval()
    x = torch.randn(5, 6, 3, dtype=torch.double)
    x[1, 0, 0], x[2, 1, 1], x[3, 2, 2] = float("nan"), float("inf"), float("-inf")
    with torch.no_grad():
        rnn.backend = "fused"
        found = rnn(x)
        rnn.backend = "loop"
        torch.testing.assert_close(tree_leaves(found), tree_leaves(rnn(x)), rtol=0, atol=1e-10, equal_nan=True)


@every_case
def test_groups_under_vmap_are_their_members_one_after_another(case):
    models = [case.build(4, backend="fused").eval() for _ in range(3)]
    parameters, buffers = torch.func.stack_module_state(models)
    x = torch.randn(3, 5, 2, 3, dtype=torch.double)

    def run(parameters, buffers, x):
        return torch.func.functional_call(models[0], (parameters, buffers), (x,))[0]

    together = torch.func.vmap(run)(parameters, buffers, x)
    alone = torch.stack([model(one)[0] for model, one in zip(models, x, strict=True)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CELLS)
def test_a_subclass_with_equations_of_its_own_is_not_fused(name):
    class Own(CELLS[name]):
        def step(self, gates, state, noise=None):
            return state

    cell = Own(3, 4)
    call = Call(((cell,),), torch.randn(2, 2, 3), ((cell.initial_state(2),),))
    with pytest.raises(ValueError, match="there is no fused kernel for this Own"):
        pick(call, "fused")


@pytest.mark.parametrize("case", [case for case in CASES if case not in FUSED], ids=str)
def test_what_is_not_fused_says_so(case):
    rnn = case.build()
    rnn.backend = "fused"
    with pytest.raises(ValueError, match="there is no fused kernel for this"):
        rnn(torch.randn(2, 2, 3, dtype=torch.double))
