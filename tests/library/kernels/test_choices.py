"""What a stack remembers of the choice of a backend, and what it must not."""

import copy
import pickle

import pytest
import torch

from deep_rnn import DeepRNN


def chosen(rnn: DeepRNN) -> set[str | None]:
    return set(rnn.choices.values())


def test_a_choice_is_made_once_for_calls_of_one_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    rnn, x = DeepRNN(3, 4, 2, "gru", backend="loop"), torch.zeros(5, 2, 3)
    rnn(x)
    rnn.backend = "native"
    rnn(x)
    asked: list[object] = []

    def choose(*call: object) -> tuple[str, str]:
        asked.append(call)
        return "native", ""

    monkeypatch.setattr("deep_rnn.kernels.dispatch.choose", choose)
    rnn(x)
    assert not asked
    rnn(torch.zeros(6, 2, 3))
    rnn.eval()(x)
    with torch.no_grad():
        rnn(x)
    assert len(asked) == 3


def test_a_changed_backend_and_dtype_are_seen() -> None:
    rnn, x = DeepRNN(3, 4, 2, "gru", backend="native"), torch.zeros(5, 2, 3)
    rnn(x)
    assert chosen(rnn) == {"native"}
    rnn.backend = "loop"  # which runs one layer at a time
    rnn(x)
    assert chosen(rnn) == {"native", None}
    rnn.double()(x.double())
    assert len(rnn.choices) == 3


def test_copies_and_what_is_unpickled_remember_nothing() -> None:
    rnn, x = DeepRNN(3, 4, 2, "gru"), torch.zeros(5, 2, 3)
    expected = rnn(x)[0]
    for other in (copy.deepcopy(rnn), pickle.loads(pickle.dumps(rnn))):
        assert not other.choices
        torch.testing.assert_close(other(x)[0], expected)


def test_ever_new_lengths_do_not_make_it_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    rnn = DeepRNN(3, 4, 1, "gru", backend="native")
    monkeypatch.setattr(type(rnn.choices), "most", 4)
    for steps in range(1, 12):
        rnn(torch.zeros(steps, 2, 3))
    assert len(rnn.choices) <= 4
