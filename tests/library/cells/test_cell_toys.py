"""Cells whose results a reader can work out by hand, and cells that are special cases of each other."""

import math

import pytest
import torch

from deep_rnn import DeepRNN
from deep_rnn.cells import CELLS

EXACT = {"rtol": 0.0, "atol": 1e-12}
NEVER, ALWAYS = -1e3, 1e3  # what a sigmoid must read to be 0 or 1


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def toy(cell, size=2, inputs=2, **options):
    """One layer with all parameters zero, and its cell to write them into."""
    rnn = DeepRNN(inputs, size, 1, cell, backend="loop", dtype=torch.double, **options)
    with torch.no_grad():
        for parameter in rnn.parameters():
            parameter.zero_()
    return rnn, rnn.layers[0].cell


def put(parameter, value):
    with torch.no_grad():
        parameter.copy_(torch.as_tensor(value, dtype=torch.double))


def open_gate(cell, **gates):
    """Set biases of gates by name."""
    with torch.no_grad():
        for name, value in gates.items():
            cell.gate(cell.bias_ih, name).fill_(value)


def read_input(cell, gate):
    """Let a gate read the input as it is."""
    with torch.no_grad():
        cell.gate(cell.weight_ih, gate).copy_(torch.eye(cell.hidden_size))


def close(one, other):
    torch.testing.assert_close(one, torch.as_tensor(other, dtype=torch.double), **EXACT)


X = torch.tensor([[1.0, -2.0], [3.0, 0.5], [-1.0, 4.0]], dtype=torch.double)  # unbatched, three steps of two features


# --- by hand ----------------------------------------------------------------------------------------------------------


def test_an_identity_rnn_sums_its_inputs():
    rnn, cell = toy("rnn", activation="identity")
    put(cell.weight_ih, torch.eye(2))
    put(cell.weight_hh, torch.eye(2))
    close(rnn(X)[0], [[1, -2], [4, -1.5], [3, 2.5]])


def test_an_rnn_that_swaps_its_units_remembers_in_turns():
    rnn, cell = toy("rnn", activation="identity")
    put(cell.weight_hh, [[0, 1], [1, 0]])
    output, _ = rnn(X, (cell.State(torch.tensor([5.0, 7.0]).double()),))
    close(output, [[7, 5], [5, 7], [7, 5]])


@pytest.mark.parametrize("name", ["lstm", "peephole", "mlstm"])
def test_an_lstm_with_saturated_gates_keeps_its_memory(name):
    rnn, cell = toy(name)
    open_gate(cell, i=NEVER, f=ALWAYS, o=ALWAYS)
    memory = torch.tensor([0.3, -2.0]).double()
    output, ended = rnn(X, (cell.State(torch.zeros(2).double(), memory),))
    close(ended[0].c, memory)
    close(output, memory.tanh().expand(3, 2))


def test_an_lstm_that_always_writes_counts_its_inputs():
    rnn, cell = toy("lstm")
    open_gate(cell, i=ALWAYS, f=ALWAYS, o=ALWAYS, g=ALWAYS)
    close(rnn(X)[1][0].c, [3, 3])


def test_a_gru_copies_its_input_or_its_state():
    rnn, cell = toy("gru")
    read_input(cell, "n")
    state = cell.State(torch.tensor([0.5, -0.5]).double())
    open_gate(cell, z=NEVER)
    close(rnn(X, (state,))[0], X.tanh())
    open_gate(cell, z=ALWAYS)
    close(rnn(X, (state,))[0], state.h.expand(3, 2))


@pytest.mark.parametrize("reset_after", [True, False])
def test_a_gru_whose_reset_gate_is_shut_forgets_in_its_candidate(reset_after):
    rnn, cell = toy("gru", reset_after=reset_after)
    read_input(cell, "n")
    put(cell.weight_hh, torch.cat((torch.zeros(4, 2), torch.eye(2))))
    open_gate(cell, r=NEVER, z=NEVER)
    close(rnn(X)[0], X.tanh())


def test_a_janet_with_an_even_gate_keeps_half_and_takes_sigmoid_of_beta():
    rnn, cell = toy("janet", beta=1.0)
    open_gate(cell, g=ALWAYS)
    close(rnn(X[:2])[0][1], [1.5 / (1 + math.exp(-1))] * 2)


def test_a_cifg_averages_what_it_reads():
    rnn, cell = toy("cifg")
    read_input(cell, "g")
    open_gate(cell, o=ALWAYS)
    close(rnn(X[:2])[1][0].c, X[0].tanh() / 4 + X[1].tanh() / 2)


def test_an_slstm_with_even_gates_is_the_mean_of_what_it_read():
    rnn, cell = toy("slstm", exponential_forget=True)  # i = f = exp(0): c is a sum and n a count
    read_input(cell, "z")
    open_gate(cell, o=ALWAYS)
    close(rnn(X)[0][2], X.tanh().mean(0))


def test_an_slstm_stays_finite_whatever_its_gates_read():
    rnn, cell = toy("slstm")
    read_input(cell, "z")
    for i in (-500.0, 500.0):
        for f in (-500.0, 500.0):
            open_gate(cell, i=i, f=f, o=ALWAYS)
            output, _ = rnn.float()(X.float())
            assert output.isfinite().all()
            torch.testing.assert_close(output[0], X[0].tanh().float())  # the first step is all there is to average
            rnn.double()


def test_an_indrnn_counts_up_and_an_independent_unit_never_sees_its_neighbour():
    rnn, cell = toy("indrnn")
    put(cell.weight_ih, torch.eye(2))
    put(cell.weight_hh, [1.0, 0.5])
    close(rnn(X)[0], [[1, 0], [4, 0.5], [3, 4.25]])


@torch.no_grad()
def test_a_bounded_indrnn_stays_finite_over_a_thousand_steps_where_one_without_a_bound_does_not():
    outputs = {}
    for bound in (None, 1.0):
        rnn, cell = toy("indrnn", bound=bound)
        put(cell.weight_ih, torch.eye(2))
        put(cell.weight_hh, [3.0, 0.5])
        cell.constrain()
        assert cell.weight_hh.tolist() == [3.0 if bound is None else 1.0, 0.5]
        outputs[bound] = rnn(torch.ones(1200, 1, 2).double())[0]
    assert not outputs[None].isfinite().all()
    close(outputs[1.0][-1], [[1200, 2]])


def test_an_sru_with_its_reset_gate_shut_is_a_wire():
    rnn, cell = toy("sru")
    open_gate(cell, r=NEVER)
    close(rnn(X)[0], X)


def test_fo_pooling_with_a_window_delays_its_input_by_a_step():
    rnn, cell = toy("fo_pool", window=2)
    put(cell.weight_ih_past[:2], torch.eye(2))
    open_gate(cell, f=NEVER, o=ALWAYS)
    close(rnn(X)[0], torch.cat((torch.zeros(1, 2).double(), X[:2].tanh())))


def test_a_mingru_with_even_gates_halves_the_past():
    rnn, cell = toy("mingru")
    read_input(cell, "n")
    close(rnn(X)[0], [[0.5, -1], [1.75, -0.25], [0.375, 1.875]])


def test_a_minlstm_normalises_its_gates():
    rnn, cell = toy("minlstm")
    read_input(cell, "n")
    close(rnn(X)[0], [[0.5, -1], [1.75, -0.25], [0.375, 1.875]])  # f = i: halves, however open both are
    open_gate(cell, f=-800.0, i=-800.0)  # where f and i underflow, f / (f + i) is still a half
    close(rnn(X)[0], [[0.5, -1], [1.75, -0.25], [0.375, 1.875]])


@pytest.mark.parametrize("name", ["mingru", "minlstm"])
def test_the_positive_candidate_is_positive_and_continuous(name):
    rnn, cell = toy(name, positive=True)
    read_input(cell, "n")
    open_gate(cell, **{"z": ALWAYS} if name == "mingru" else {"f": NEVER, "i": ALWAYS})
    close(rnn(torch.tensor([[2.0, -1.0]]).double())[0], [[2.5, 1 / (1 + math.e)]])
    close(rnn(torch.tensor([[0.0, -1e-14]]).double())[0], [[0.5, 0.5]])


def test_an_rhn_that_carries_keeps_its_state():
    rnn, cell = toy("rhn", transition_depth=4)
    cell.set_gate_bias("t", NEVER)
    state = cell.State(torch.tensor([0.5, -3.0]).double())
    close(rnn(X, (state,))[0], state.h.expand(3, 2))


def test_an_rhn_begins_by_carrying_whatever_the_initialiser():
    for init in ("torch", "keras", "orthogonal"):
        cell = DeepRNN(3, 4, 1, "rhn", init=init).layers[0].cell
        assert all((cell.gate(bias, "t") == -2).all() for name, bias in cell.named_parameters() if "bias" in name)


def test_a_free_oscillator_swings():
    rnn, cell = toy("cornn", dt=0.5, gamma=1.0, epsilon=0.0)
    output, ended = rnn(X[:2], (cell.State(torch.ones(2).double(), torch.zeros(2).double()),))
    close(output[:, 0], [0.75, 0.3125])  # z: 0, -1/2, -7/8;  y: 1, 3/4, 5/16
    close(ended[0].z, [-0.875, -0.875])


def test_a_lem_with_small_time_steps_stands_still():
    rnn, cell = toy("lem")
    open_gate(cell, a=NEVER, d=NEVER)
    state = cell.State(torch.tensor([0.5, -0.5]).double(), torch.tensor([1.0, 2.0]).double())
    output, ended = rnn(X, (state,))
    close(output, state.y.expand(3, 2))
    close(ended[0].z, state.z)


def test_an_antisymmetric_rnn_turns_its_state_and_keeps_its_length():
    rnn, cell = toy("antisymmetric", epsilon=1e-4, gamma=0.0)
    put(cell.weight_hh, [[0.0, 1.0], [0.0, 0.0]])  # W - W^T turns by a right angle
    state = cell.State(torch.tensor([0.01, 0.0]).double())
    output, _ = rnn(torch.zeros(2000, 2).double(), (state,))
    angle = torch.atan2(output[-1, 1], output[-1, 0])
    torch.testing.assert_close(angle, torch.tensor(-0.2).double(), rtol=1e-3, atol=0)
    torch.testing.assert_close(output[-1].norm(), state.h.norm(), rtol=1e-3, atol=0)


# --- one cell is another's special case -------------------------------------------------------------------------------


def pair(first, second, **options):
    """Two layers of width 4 over random inputs [6, 3, 3], the second's parameters zero."""
    one = DeepRNN(3, 4, 1, first, backend="loop", dtype=torch.double, **options.pop("of_first", {}))
    other, cell = toy(second, 4, 3, **options)
    return one, one.layers[0].cell, other, cell, torch.randn(6, 3, 3, dtype=torch.double)


def test_a_peephole_lstm_without_peepholes_is_an_lstm():
    one, lstm, other, cell, x = pair("lstm", "peephole")
    for name in ("weight_ih", "weight_hh"):
        put(getattr(cell, name), getattr(lstm, name))
    put(cell.bias_ih, lstm.bias_ih + lstm.bias_hh)
    close(other(x)[0], one(x)[0])


def test_an_lstm_with_opposite_gates_is_a_cifg():
    one, cifg, other, lstm, x = pair("cifg", "lstm")
    for name in ("weight_ih", "weight_hh", "bias_ih"):
        f, g, o = getattr(cifg, name).chunk(3)
        put(getattr(lstm, name), torch.cat((-f, f, g, o)))  # sigmoid(-a) = 1 - sigmoid(a)
    close(other(x)[0], one(x)[0])


def test_a_gru_with_opposite_gates_is_an_mgu():
    one, mgu, other, gru, x = pair("mgu", "gru", reset_after=False)
    for name in ("weight_ih", "weight_hh", "bias_ih"):
        f, n = getattr(mgu, name).chunk(2)
        put(getattr(gru, name), torch.cat((f, -f, n)))
    close(other(x)[0], one(x)[0])


def test_an_ugrnn_is_a_gru_that_never_resets():
    one, ugrnn, other, gru, x = pair("ugrnn", "gru")
    for name in ("weight_ih", "weight_hh", "bias_ih"):
        c, g = getattr(ugrnn, name).chunk(2)
        put(getattr(gru, name), torch.cat((torch.zeros_like(g), g, c)))
    open_gate(gru, r=ALWAYS)
    close(other(x)[0], one(x)[0])


def test_a_janet_without_beta_is_an_ugrnn():
    one, ugrnn, other, janet, x = pair("ugrnn", "janet", beta=0.0)
    for name in ("weight_ih", "weight_hh", "bias_ih"):
        c, g = getattr(ugrnn, name).chunk(2)
        put(getattr(janet, name), torch.cat((g, c)))
    close(other(x)[0], one(x)[0])


def test_heads_are_blocks_of_one_matrix():
    one, cell, other, whole, x = pair("slstm", "slstm", of_first={"heads": 2})
    put(whole.weight_ih, cell.weight_ih)
    put(whole.bias_ih, cell.bias_ih)
    gates = [torch.block_diag(*gate.split(2)) for gate in cell.weight_hh.split(4)]
    put(whole.weight_hh, torch.cat(gates))
    close(other(x)[0], one(x)[0])


def test_the_stabiliser_changes_no_output():
    rnn = DeepRNN(3, 4, 1, "slstm", dtype=torch.double)
    x = torch.randn(6, 3, 3, dtype=torch.double)
    state = rnn(x)[1][0]
    shifted = state._replace(c=state.c * math.e, n=state.n * math.e, m=state.m - 1)
    close(rnn(x, (shifted,))[0], rnn(x, (state,))[0])


def test_an_identity_transition_adds_no_depth():
    options = {"activation": "relu"}
    one, plain, other, deep, x = pair("rnn", "rnn", of_first=options, transition_depth=3, **options)
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        put(getattr(deep, name), getattr(plain, name))
    put(deep.weight_hh_2, torch.eye(4))
    put(deep.weight_hh_3, torch.eye(4))
    close(other(x)[0], one(x)[0])


def test_a_shortcut_carries_the_state_past_shut_transitions():
    rnn, cell = toy("rnn", activation="identity", transition_depth=3, shortcut=True)
    put(cell.weight_hh_shortcut, 2 * torch.eye(2))
    state = cell.State(torch.tensor([1.0, -1.0]).double())
    close(rnn(X, (state,))[0], [[2, -2], [4, -4], [8, -8]])


def test_layer_norm_undoes_the_scale_and_shift_of_a_product():
    for name in ("rnn", "lstm", "gru"):
        rnn = DeepRNN(3, 4, 1, name, dtype=torch.double, layer_norm=True)
        x = 100 * torch.randn(6, 3, 3, dtype=torch.double)  # far from the 1e-5 under the root
        before, _ = rnn(x[:1])
        torch.testing.assert_close(rnn(7 * x[:1])[0], before, rtol=0, atol=1e-6)


# --- options ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "options", "message"),
    [
        ("rnn", {"activation": "tanhh"}, r"unknown activation 'tanhh' \(did you mean tanh\?\)"),
        ("indrnn", {"activation": "rellu"}, r"unknown activation 'rellu' \(did you mean relu\?\)"),
        ("indrnn", {"bound": 0.0}, "bound must be a positive number or None, not 0.0"),
        ("lstm", {"transition_depth": 0}, "transition_depth must be at least 1, not 0"),
        ("gru", {"shortcut": True}, "needs a transition_depth of at least 2"),
        ("lstmp", {"proj_size": 4}, "proj_size must be from 1 to below hidden_size=4, not 4"),
        ("slstm", {"heads": 3}, "heads must divide hidden_size=4; 3 does not"),
        ("fo_pool", {"window": 0}, "window must be at least 1, not 0"),
        ("rhn", {"transition_depth": 0}, "transition_depth must be at least 1, not 0"),
        ("cornn", {"dt": 0.0}, "dt must be positive, not 0.0"),
        ("lem", {"dt": -1.0}, "dt must be positive, not -1.0"),
        ("antisymmetric", {"epsilon": 0.0}, "epsilon must be positive, not 0.0"),
    ],
)
def test_an_option_out_of_range_is_refused_by_name(cell, options, message):
    with pytest.raises(ValueError, match=message):
        DeepRNN(3, 4, 1, cell, **options)


def test_every_cell_takes_a_width_of_one():
    for name in CELLS:
        assert DeepRNN(3, 1, 2, name)(torch.randn(4, 2, 3))[0].isfinite().all(), name
