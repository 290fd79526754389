"""The loop is the truth, and recomputing in chunks of time changes its memory and nothing else."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_leaves

from deep_rnn import DeepRNN
from deep_rnn.cells import CELLS, Cell
from deep_rnn.kernels import Call, pick, unroll

TIME, BATCH, INPUT, HIDDEN = 13, 4, 3, 5
LENGTHS = torch.tensor([13, 7, 0, 2])
NOISY = {"zoneout": 0.3, "weight_drop": 0.2, "recurrent_dropout": 0.2, "candidate_dropout": 0.2, "dropout": 0.2}
RECIPES = {
    "lstm": {"cell": "lstm"},
    "both ways": {"cell": "gru", "bidirectional": True, "link": "residual"},
    "noise": {"cell": "lstm", **NOISY},
    "noise both ways": {"cell": "gru", "reset_after": False, "bidirectional": True, "locked_dropout": True, **NOISY},
    "window": {"cell": "fo_pool", "window": 3},
}


class Recorder(Cell):
    """h' = 10 h + x: the digits of h are the inputs in the order in which they were visited."""

    gates, recurrent_gates = ("g",), ()

    def project(self, x):
        return x

    def step(self, gates, state):
        return self.State(10 * state.h + gates)


def recorded(x, lengths=None):
    """Forward and backward outputs and last states of the recorder over x [T, B]."""
    cells = (Recorder(1, 1), Recorder(1, 1))
    x = x.unsqueeze(-1)
    states = (tuple(cell.initial_state(x.shape[1]) for cell in cells),)
    result = unroll(Call((cells,), x, states, lengths), "loop")
    return result.output, [state.h.squeeze(-1).tolist() for state in result.states[0]]


def test_each_direction_visits_the_valid_steps_in_its_order():
    x = torch.tensor([[1.0, 4.0, 7.0], [2.0, 5.0, 0.0], [3.0, 0.0, 0.0]])
    output, (forward, backward) = recorded(x, torch.tensor([3, 2, 1]))
    assert forward == [123, 45, 7] and backward == [321, 54, 7]
    assert output[..., 0].tolist() == [[1, 4, 7], [12, 45, 0], [123, 0, 0]]
    assert output[..., 1].tolist() == [[321, 54, 7], [32, 5, 0], [3, 0, 0]]


def test_no_steps_leave_the_state_and_give_an_empty_output():
    output, (forward, backward) = recorded(torch.empty(0, 2))
    assert output.shape == (0, 2, 2) and forward == backward == [0, 0]


def run(recompute, options, lengths=None):
    """Outputs, gradients and the next random number of one training pass that always starts from the same seed."""
    torch.manual_seed(0)
    rnn = DeepRNN(INPUT, HIDDEN, 2, backend="loop", recompute=recompute, dtype=torch.double, **options)
    x = torch.randn(TIME, BATCH, INPUT, dtype=torch.double, requires_grad=True)
    output, state = rnn(x, None, lengths)
    loss = output.square().sum() + sum(value.sin().sum() for value in tree_leaves(state))
    return output, torch.autograd.grad(loss, [x, *rnn.parameters()]), torch.rand(1)


@pytest.mark.parametrize("lengths", [None, LENGTHS], ids=["full", "lengths"])
@pytest.mark.parametrize("recompute", [1, 4, 13, 50])
@pytest.mark.parametrize("recipe", RECIPES)
def test_recompute_changes_no_output_gradient_or_random_number(recipe, recompute, lengths):
    expected, wanted, next_number = run(None, RECIPES[recipe], lengths)
    output, found, number = run(recompute, RECIPES[recipe], lengths)
    assert torch.equal(output, expected) and torch.equal(number, next_number)
    for mine, reference in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, reference, rtol=0, atol=1e-12)  # chunks add up in another order


def peak_memory(function):
    """Most bytes that the CPU allocator held at once, beyond what it held before, while the function ran."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        function()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


def test_recompute_lowers_the_peak_of_memory_over_forward_and_backward():
    torch.manual_seed(0)
    rnn, x = DeepRNN(8, 16, cell="gru", backend="loop"), torch.randn(64, 8, 8)
    peaks = {}
    for chunk in (None, 8, 64):
        rnn.recompute = chunk
        peaks[chunk] = peak_memory(lambda: rnn(x)[0].sum().backward())
    assert peaks[8] < peaks[None] / 3  # 4.1 times lower when written
    assert peaks[64] > peaks[None] * 0.9  # one chunk of all steps keeps all its activations in the backward


def test_recompute_can_be_differentiated_twice():
    torch.manual_seed(0)
    rnn = DeepRNN(2, 3, 1, "gru", backend="loop", recompute=2, dtype=torch.double)
    x = torch.randn(3, 1, 2, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x: rnn(x)[0], (x,))


def test_recompute_keeps_torchs_layers_out_only_where_gradients_are_taken():
    cell = CELLS["lstm"](INPUT, HIDDEN)
    call = Call(((cell,),), torch.randn(TIME, BATCH, INPUT), ((cell.initial_state(BATCH),),), recompute=4)
    with pytest.raises(ValueError, match=r"backend=native cannot run this: .*recompute in chunks of time"):
        pick(call, "native")
    with torch.no_grad():
        assert pick(call, "native") == ("native", "asked for")


@pytest.mark.parametrize("recompute", [0, -1])
def test_chunks_of_no_steps_are_refused(recompute):
    with pytest.raises(ValueError, match="recompute must be at least 1 step"):
        DeepRNN(INPUT, HIDDEN, recompute=recompute)
