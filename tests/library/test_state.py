"""The state of a stack cannot be taken for torch.nn's, and goes wherever torch takes tensors."""

import copy
import io
import pickle
import re

import pytest
import torch
from torch.func import functional_call, vmap
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.checkpoint import checkpoint

from deep_rnn import DeepRNN, StackState
from src.training.checkpoint import as_tuples, to_plain


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def stack(num_layers=2, cell="lstm", **options):
    return DeepRNN(3, 4, num_layers, cell, dtype=torch.double, **options)


def batch(time=5, size=2):
    return torch.randn(time, size, 3, dtype=torch.double)


def test_unpacking_as_h_and_c_is_refused_in_one_line_that_names_the_right_things():
    rnn = stack()
    with pytest.raises(TypeError, match=r"one entry a layer and is not .*\(h, c\).*state\.layers.*state_to_torch") as e:
        _, (_h, _c) = rnn(batch())
    assert "\n" not in str(e.value)
    for state in (
        rnn.initial_state(2),
        rnn.step(batch()[0])[1],
        rnn.state_from_torch(rnn.state_to_torch(rnn(batch())[1])),
    ):
        with pytest.raises(TypeError, match="one entry a layer"):
            tuple(state)


def test_it_has_a_length_and_entries():
    _, state = stack(3)(batch())
    assert len(state) == 3 and state[-1] is state.layers[2] and state[0].c.shape == (2, 4)
    assert isinstance(state[1:], StackState) and state[1:].layers == state.layers[1:]


@pytest.mark.parametrize("bidirectional", [False, True, "stacks"])
def test_tuples_and_lists_of_entries_are_taken_too(bidirectional):
    rnn, x = stack(bidirectional=bidirectional), batch()
    state = tree_map(torch.randn_like, rnn.initial_state(2))
    expected = rnn(x, state)[0]
    for other in (state.layers, list(state.layers)):
        torch.testing.assert_close(rnn(x, other)[0], expected, rtol=0, atol=0)
    one = tree_map(lambda value: value[0], state)
    torch.testing.assert_close(rnn(x[:, 0], one)[0], expected[:, 0])
    torch.testing.assert_close(rnn(x[:, 0], one.layers)[0], expected[:, 0])


@pytest.mark.parametrize("bidirectional", [False, True, "stacks"])
@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_torchs_form_is_refused_with_the_way_to_convert_it(cell, layers, bidirectional):
    rnn = stack(layers, cell, bidirectional=bidirectional)
    h = torch.zeros(layers * (2 if bidirectional else 1), 2, 4, dtype=torch.double)
    given = (h, h) if cell == "lstm" else h
    for x, state in ((batch(), given), (batch()[:, 0], given), (batch(), list(given))):
        with pytest.raises(ValueError, match=r"not .*a Tensor; .*rnn\.state_from_torch") as e:
            rnn(x, state)
        assert "\n" not in str(e.value)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_what_state_from_torch_cannot_take_is_said(cell):
    rnn, h = stack(cell=cell), torch.zeros(2, 2, 4, dtype=torch.double)
    wanted = "(h, c), not one tensor" if cell == "lstm" else "h, not 2 tensors"
    with pytest.raises(ValueError, match=re.escape(f"torch.nn's form is {wanted}")):
        rnn.state_from_torch(h if cell == "lstm" else (h, h))
    with pytest.raises(ValueError, match="a StackState already"):
        rnn.state_from_torch(rnn.initial_state(2))


def test_compiled_calls_take_it_and_give_it_back():
    rnn, x = stack(backend="loop"), batch()
    _, state = rnn(x)
    compiled = torch.compile(rnn, fullgraph=True, backend="aot_eager")
    output, ended = compiled(x, state)
    assert type(ended) is StackState and type(ended[0]) is type(state[0])
    expected, expected_end = rnn(x, state)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(tree_leaves(ended), tree_leaves(expected_end), rtol=0, atol=1e-12)
    torch.testing.assert_close(compiled(x, ended)[0], rnn(x, expected_end)[0], rtol=0, atol=1e-12)


def test_an_exported_program_with_it_can_be_saved_and_loaded():
    rnn, x = stack().eval(), batch()
    _, state = rnn(x)
    with torch.no_grad():
        program = torch.export.export(rnn, (x, state))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    output, ended = torch.export.load(file).module()(x, state)
    assert type(ended) is StackState
    torch.testing.assert_close(output, rnn(x, state)[0], rtol=0, atol=1e-12)


def test_vmap_functional_call_and_checkpoint_see_its_tensors():
    rnn, x = stack(), batch()
    _, state = rnn(x)
    many = tree_map(lambda value: torch.stack((value, 2 * value)), state)
    _, mapped = vmap(lambda s: functional_call(rnn, {}, (x, s)))(many)
    assert type(mapped) is StackState
    torch.testing.assert_close(mapped[1].c[1], rnn(x, tree_map(lambda v: 2 * v, state))[1][1].c)
    output, ended = checkpoint(rnn, x, state, use_reentrant=False)
    (output.sum() + ended[0].c.sum()).backward()
    assert all(parameter.grad is not None for parameter in rnn.parameters())


def test_copies_and_pickles_are_states():
    _, state = stack()(batch())
    state, file = DeepRNN.detach(state), io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    for other in (pickle.loads(pickle.dumps(state)), copy.deepcopy(state), torch.load(file, weights_only=True)):
        assert type(other) is StackState
        torch.testing.assert_close(tree_leaves(other), tree_leaves(state))


def test_carried_in_a_checkpoint_it_is_plain_and_old_checkpoints_go_on(tmp_path):
    rnn, x = stack(), batch()
    _, state = rnn(x)
    plain = to_plain(state)
    assert str(plain) == str(to_plain(state.layers))  # what older versions wrote, whose state was a tuple
    torch.save({"carry": plain}, tmp_path / "a.ckpt")
    read = as_tuples(torch.load(tmp_path / "a.ckpt", weights_only=True)["carry"])
    torch.testing.assert_close(rnn(x, read)[0], rnn(x, state)[0], rtol=0, atol=0)
