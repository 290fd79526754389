"""What every cell promises under DeepRNN, whatever its equations."""

import copy

import pytest
import torch
from cell_cases import CASES, PLAIN, batch, warm_state
from torch.export import Dim
from torch.utils._pytree import tree_leaves

from deep_rnn.init import INITS
from deep_rnn.kernels import BACKENDS, compiled

EXACT = {"rtol": 0.0, "atol": 1e-12}

every_case = pytest.mark.parametrize("case", CASES, ids=str)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def same(one, other):
    torch.testing.assert_close(tree_leaves(one), tree_leaves(other), **EXACT)


# --- state ------------------------------------------------------------------------------------------------------------


@every_case
def test_chunks_equal_the_whole(case):
    rnn, x = case.build(layers=2), batch()
    start = warm_state(rnn)
    output, ended = rnn(x, start)
    first, between = rnn(x[:1], start)
    second, last = rnn(x[1:], between)
    same((first, second, last), (output[:1], output[1:], ended))


@every_case
def test_repeated_step_equals_forward(case):
    rnn, x = case.build(layers=2), batch()
    output, ended = rnn(x)
    state = None
    for t, x_t in enumerate(x):
        y_t, state = rnn.step(x_t, state)
        same(y_t, output[t])
    same(state, ended)


@every_case
def test_state_passed_in_is_used_and_left_alone(case):
    rnn, x = case.build(), batch()
    start = warm_state(rnn)
    before = copy.deepcopy(start)
    assert not torch.allclose(rnn(x, start)[0][0], rnn(x)[0][0])
    assert all(torch.equal(a, b) for a, b in zip(tree_leaves(start), tree_leaves(before), strict=True))


@every_case
def test_initial_state_is_zero_and_has_the_promised_sizes(case):
    (state,) = case.build().initial_state(3).layers
    cell = case.build().layers[0].cell
    assert [tuple(value.shape) for value in state] == [(3, size) for size in cell.state_sizes]
    assert cell.output(state).shape == (3, cell.output_size)
    assert not any(value.any() for value in state)


@every_case
def test_state_of_the_wrong_shape_is_refused_by_name(case):
    rnn = case.build()
    (state,) = rnn.initial_state(3).layers
    for k, field in enumerate(state._fields):
        wrong = state._replace(**{field: torch.zeros(3, state[k].shape[1] + 1, dtype=torch.double)})
        with pytest.raises(ValueError, match=rf"state of layer 0: {field} must have shape"):
            rnn(batch(), (wrong,))
    fields = ", ".join(state._fields)
    with pytest.raises(ValueError, match=rf"state of layer 0 must be {type(state).__name__}\({fields}\), not a Tensor"):
        rnn(batch(), (torch.zeros(3, 4, dtype=torch.double),))


# --- lengths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bidirectional", [False, True])
@every_case
def test_padded_columns_equal_each_alone(case, bidirectional):
    rnn, x, lengths = case.build(layers=2, bidirectional=bidirectional), batch(), [6, 1, 4]
    output, ended = rnn(x, lengths=lengths)
    for k, length in enumerate(lengths):
        alone, state = rnn(x[:length, k : k + 1])
        same(output[:length, k : k + 1], alone)
        assert not output[length:, k].any()
        same([value[k : k + 1] for value in tree_leaves(ended)], state)


@pytest.mark.parametrize("bidirectional", [False, True])
@every_case
def test_nan_in_the_padding_reaches_neither_results_nor_gradients(case, bidirectional):
    rnn, x, lengths = case.build(bidirectional=bidirectional, init="keras"), batch(), [6, 2, 0]
    hidden = x.clone()
    for k, length in enumerate(lengths):
        hidden[length:, k] = torch.nan
    results = []
    for inputs in (x, hidden):
        rnn.zero_grad()
        output, ended = rnn(inputs, lengths=lengths)
        output.square().sum().backward()
        results.append((output.detach(), ended, [parameter.grad.clone() for parameter in rnn.parameters()]))
    same(*results)


@pytest.mark.parametrize("bidirectional", [False, True])
@every_case
def test_length_zero_gives_zero_output_and_leaves_the_state(case, bidirectional):
    rnn = case.build(bidirectional=bidirectional)
    start = warm_state(rnn)
    output, ended = rnn(batch(), start, lengths=[6, 0, 3])
    assert not output[:, 1].any()
    for before, after in zip(tree_leaves(start), tree_leaves(ended), strict=True):
        assert torch.equal(before[1], after[1])
    assert rnn(batch(0))[0].shape == (0, 3, rnn.output_size)


# --- batches ----------------------------------------------------------------------------------------------------------


@every_case
def test_a_batch_of_one_and_no_batch_equal_its_column(case):
    rnn, x = case.build(), batch()
    start = warm_state(rnn)
    output, ended = rnn(x, start)
    (state,) = start
    single, single_end = rnn(x[:, 1:2], (type(state)(*(value[1:2] for value in state)),))
    bare, bare_end = rnn(x[:, 1], (type(state)(*(value[1] for value in state)),))
    same((single, bare), (output[:, 1:2], output[:, 1]))
    same(single_end, [value[1:2] for value in tree_leaves(ended)])
    same(bare_end, [value[1] for value in tree_leaves(ended)])


# --- parameters -------------------------------------------------------------------------------------------------------


@every_case
def test_every_initialiser_gives_finite_outputs_and_gradients(case):
    for init in INITS:
        rnn = case.build(layers=2, init=init, dtype=torch.float)
        output, _ = rnn(batch(8, dtype=torch.float))
        output.square().sum().backward()
        assert output.isfinite().all() and output.any(), init
        for name, parameter in rnn.named_parameters():
            assert parameter.isfinite().all() and parameter.grad.isfinite().all(), (init, name)


@every_case
def test_norms_start_as_norms(case):
    for name, parameter in case.build().named_parameters():
        if "norm" in name:
            assert (parameter == (0 if name.endswith("bias") else 1)).all(), name


@every_case
def test_forget_bias_is_what_the_forget_gates_biases_add_up_to(case):
    cell = case.build(forget_bias=2.5).layers[0].cell
    if cell.forget_gate is None:
        return
    named = cell.named_parameters()
    biases = {name: cell.gate(bias, cell.forget_gate) for name, bias in named if name.startswith("bias")}
    first = sum(biases.pop(name) for name in ("bias_ih", "bias_hh") if name in biases)
    for total in (first, *biases.values()):  # the first transition's two biases, and one of each further transition
        assert (total == 2.5).all()


@every_case
def test_a_deep_copy_is_equal_and_apart(case):
    rnn, x = case.build(layers=2), batch()
    twin = copy.deepcopy(rnn)
    same(twin(x), rnn(x))
    with torch.no_grad():
        next(twin.parameters()).mul_(-1)
    assert not torch.allclose(twin(x)[0], rnn(x)[0])


@every_case
def test_a_state_dict_carries_everything(case):
    rnn, x = case.build(layers=2, bidirectional=True), batch()
    other = case.build(layers=2, bidirectional=True)
    assert not torch.allclose(other(x)[0], rnn(x)[0])
    other.load_state_dict(rnn.state_dict())
    same(other(x), rnn(x))


@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_without_biases_there_are_none(case):
    assert not [name for name, _ in case.build(bias=False).named_parameters() if "bias" in name]


# --- backends ---------------------------------------------------------------------------------------------------------


def outcome(rnn, x, **arguments):
    """Output, state and all gradients of one call."""
    rnn.zero_grad()
    x = x.clone().requires_grad_()
    output, ended = rnn(x, **arguments)
    (output.square().sum() + sum(value.sin().sum() for value in tree_leaves(ended))).backward()
    results = [output, *tree_leaves(ended)]
    return [value.detach() for value in results], [x.grad, *(parameter.grad for parameter in rnn.parameters())]


@pytest.mark.parametrize("backend", [name for name in BACKENDS if name not in ("loop", "compiled")])
@pytest.mark.parametrize("lengths", [None, [6, 0, 3]], ids=["full", "lengths"])
@pytest.mark.parametrize("bidirectional", [False, True])
@every_case
def test_a_backend_equals_loop_or_says_why_not(case, bidirectional, lengths, backend):
    equals_loop(case.build(layers=2, bidirectional=bidirectional), batch(), lengths, backend)


@pytest.mark.slow  # a program for each cell
@every_case
def test_compiled_chunks_equal_loop(case, monkeypatch):
    monkeypatch.setattr(compiled, "COMPILER", {"backend": "aot_eager"})  # code generation would take minutes
    equals_loop(case.build(bidirectional=True), batch(), [6, 0, 3], "compiled")


def equals_loop(rnn, x, lengths, backend):
    """Unless the backend refuses by its name."""
    rnn.backend = backend
    try:
        result = outcome(rnn, x, lengths=lengths)
    except ValueError as refusal:
        assert f"backend={backend} cannot run this: " in str(refusal)
        return
    rnn.backend = "loop"
    torch.testing.assert_close(result, outcome(rnn, x, lengths=lengths), rtol=0, atol=1e-10)


@pytest.mark.slow
@pytest.mark.parametrize("case", PLAIN, ids=str)
def test_an_exported_graph_runs_any_number_of_steps(case):
    rnn = case.build().eval()
    with torch.no_grad():
        program = torch.export.export(rnn, (batch(3, 2),), dynamic_shapes=({0: Dim.DYNAMIC, 1: Dim.DYNAMIC},))
        x = batch(9, 4)
        same(program.module()(x), rnn(x))


@pytest.mark.parametrize("case", [case for case in CASES if case.build().layers[0].cell.native_mode], ids=str)
def test_only_what_torch_computes_claims_to_be_native(case):
    assert case.cell in ("rnn", "lstm", "gru", "lstmp")
    assert not case.options.keys() & {"layer_norm", "transition_depth", "shortcut"}
    assert case.options.get("reset_after", True) and case.options.get("activation", "tanh") in ("tanh", "relu")
