"""The models that tasks train: pooling over valid steps only, and heads of the right size."""

import pytest
import torch

from deep_rnn import DeepRNN
from src.modules.sequence import POOLINGS, Embedding, Pooling, SequenceModel, show_all_words


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("link", ["none", "dense"])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_never_reaches_the_logits(pooling, bidirectional, link):
    model = SequenceModel(11, 3, 4, DeepRNN(4, 5, 2, "gru", link, bidirectional), pooling)
    ids, lengths = torch.randint(1, 11, (6, 3)), torch.tensor([6, 2, 4])
    logits = model(ids, lengths)
    assert logits.shape == (3, 3)
    for k, length in enumerate(lengths):
        alone = model(ids[:length, k : k + 1], length[None])
        torch.testing.assert_close(logits[k : k + 1], alone, rtol=1e-5, atol=1e-6)


def test_pooling_by_hand():
    output, lengths = torch.tensor([[[1.0], [5.0]], [[-2.0], [0.0]], [[3.0], [0.0]]]), torch.tensor([3, 1])
    assert Pooling("last", 1, False)(output, lengths).flatten().tolist() == [3, 5]
    assert Pooling("last", 1, True)(output, lengths).tolist() == [[3, 1], [5, 5]]
    assert Pooling("max", 1, False)(output, lengths).flatten().tolist() == [3, 5]
    torch.testing.assert_close(Pooling("max+mean", 1, False)(output, lengths), torch.tensor([[3, 2 / 3], [5, 5]]))
    assert Pooling("max", 1, False)(-output, lengths).flatten().tolist() == [2, -5]  # padding's zero is no maximum


def test_attention_weighs_the_valid_steps_by_a_softmax_over_time():
    pooling, output = Pooling("attention", 1, False), torch.tensor([[[1.0], [5.0]], [[2.0], [0.0]]])
    with torch.no_grad():
        pooling.attention.weight.fill_(3.0)
    weight = torch.tensor([3.0, 6.0]).softmax(0)
    expected = torch.tensor([[weight[0] * 1 + weight[1] * 2], [5.0]])
    torch.testing.assert_close(pooling(output, torch.tensor([2, 1])), expected)


def test_input_dropout_drops_the_same_features_at_every_step():
    model = SequenceModel(9, 1, 400, DeepRNN(400, 3), input_dropout=0.5)
    seen = []
    model.rnn.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    model(torch.randint(1, 9, (6, 2)), torch.tensor([6, 6]))
    dropped = seen[0] == 0
    assert (dropped == dropped[0]).all() and 0.4 < dropped.float().mean() < 0.6


@pytest.mark.parametrize("pooling", POOLINGS)
def test_an_empty_sequence_pools_to_zero_with_finite_gradients(pooling):
    output = torch.zeros(2, 2, 3, requires_grad=True)
    pooled = Pooling(pooling, 3, False)(output, torch.tensor([0, 2]))
    pooled.sum().backward()
    assert not pooled[0].any() and output.grad.isfinite().all()


def test_word_dropout_drops_whole_words_in_training_only():
    model = SequenceModel(9, 1, 4, DeepRNN(4, 3), word_dropout=0.5)
    seen = []
    model.rnn.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    ids, lengths = torch.randint(1, 9, (50, 4)), torch.full((4,), 50)
    model(ids, lengths)
    dropped = (seen[0] == 0).all(-1)
    assert 0.3 < dropped.float().mean() < 0.7
    torch.testing.assert_close(seen[0][~dropped], model.embedding.weight[ids][~dropped])  # nothing is rescaled
    model.eval()(ids, lengths)
    torch.testing.assert_close(seen[1], model.embedding(ids))


def test_embedding_dropout_drops_words_of_the_vocabulary_from_the_whole_batch():
    embedding = Embedding(400, 2, type_dropout=0.5)
    ids = torch.arange(400).repeat(2, 1)
    first, second = embedding(ids)
    torch.testing.assert_close(first, second)
    dropped = (first == 0).all(-1)
    assert 0.4 < dropped.float().mean() < 0.6
    torch.testing.assert_close(first[~dropped], 2 * embedding.weight[~dropped])
    torch.testing.assert_close(embedding.eval()(ids)[0], embedding.weight)


def test_a_deep_output_has_its_hidden_layers():
    model = SequenceModel(9, 3, 4, DeepRNN(4, 5), head_hidden=[7, 6], init="keras")
    widths = [(m.in_features, m.out_features) for m in model.head.modules() if isinstance(m, torch.nn.Linear)]
    assert widths == [(5, 7), (7, 6), (6, 3)]
    assert model(torch.ones(4, 2, dtype=torch.long), torch.tensor([4, 2])).shape == (2, 3)


def test_the_padding_vector_is_zero_and_stays_so():
    for init in ("torch", "keras"):
        model = SequenceModel(9, 1, 4, DeepRNN(4, 3), init=init)
        model(torch.zeros(3, 1, dtype=torch.long), torch.tensor([3])).sum().backward()
        assert not model.embedding.weight[0].any() and not model.embedding.weight.grad[0].any()


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"unknown pooling 'maxx' \(did you mean max\?\)"):
        SequenceModel(9, 1, 4, DeepRNN(4, 3), pooling="maxx")
    with pytest.raises(ValueError, match="read 5 features, not 4"):
        SequenceModel(9, 1, 5, DeepRNN(4, 3))


def test_all_words_can_be_shown_again() -> None:
    model = SequenceModel(9, 1, 4, DeepRNN(4, 3), word_dropout=0.9, embedding_dropout=0.5).train()
    show_all_words(model)
    ids = torch.randint(1, 9, (5, 7))
    torch.testing.assert_close(model.embedding(ids), model.embedding.weight[ids])


def test_the_gradient_of_word_vectors_is_the_embeddings_own_to_the_bit():
    own, reference = Embedding(50, 8, pad_id=0), torch.nn.Embedding(50, 8, padding_idx=0)
    reference.load_state_dict(own.state_dict())
    for ids in (torch.randint(1, 50, (30, 7)), torch.randint(0, 3, (30, 7)), torch.ones(0, 3, dtype=torch.long)):
        weights = torch.randn(*ids.shape, 8)
        found, expected = own(ids), reference(ids)
        assert torch.equal(found, expected)
        gradients = [
            torch.autograd.grad((y * weights).sum(), m.weight)[0] for y, m in ((found, own), (expected, reference))
        ]
        assert torch.equal(*gradients)
