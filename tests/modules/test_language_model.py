"""The language model's softmaxes, its ties, and its path of single steps."""

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from deep_rnn import DeepRNN
from src.modules.language_model import LanguageModel, read_prompt
from src.modules.sequence import SequenceModel


def model(vocab: int = 20, embedding: int = 6, width: int = 6, **options: Any) -> LanguageModel:
    torch.manual_seed(0)
    stack = DeepRNN(embedding, width, 2, cell=options.pop("cell", "gru"), bidirectional=options.pop("both", False))
    return LanguageModel(vocab, embedding, stack, **options).double().eval()


IDS, TARGETS = torch.randint(2, 20, (7, 3)), torch.randint(2, 20, (7, 3))


@pytest.mark.parametrize(
    "options", [{}, {"width": 9}, {"tied": False}, {"tied": False, "cutoffs": [4, 12], "width": 16}]
)
def test_every_softmax_is_a_distribution_and_the_loss_is_its_negative_logarithm(options: dict[str, Any]) -> None:
    own = model(**options)
    reading = own(IDS)
    logs = torch.stack([own.log_probabilities(features) for features in reading.features])
    torch.testing.assert_close(logs.exp().sum(-1), torch.ones(7, 3, dtype=logs.dtype), rtol=0, atol=1e-12)
    missing = TARGETS.clone()
    missing[2:, 1] = -1
    wanted = -logs.gather(-1, TARGETS[..., None])[..., 0][missing >= 0].sum()
    torch.testing.assert_close(own.nats(reading.features, missing), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("width", [6, 9])
def test_tied_weights_are_one_matrix_that_both_ends_train(width: int) -> None:
    own = model(width=width).train()
    assert own.decoder.weight is own.embedding.weight
    names = [name for name, _ in own.named_parameters()]
    assert "embedding.weight" in names and "decoder.weight" not in names and "decoder.bias" in names
    own.nats(own(IDS).features, TARGETS).backward()
    unread = sorted(set(range(20)) - set(IDS.flatten().tolist()))
    assert own.embedding.weight.grad is not None and own.embedding.weight.grad[unread].abs().sum() > 0


def test_step_by_step_is_the_whole_at_once_and_its_state_does_not_grow() -> None:
    own = model(width=9)
    whole, state, sizes = own(IDS), None, set()
    for t, ids in enumerate(IDS):
        logs, state = own.step(ids, state)
        torch.testing.assert_close(logs, own.log_probabilities(whole.features[t]), rtol=1e-12, atol=1e-12)
        sizes.add(tuple(value.shape for layer in state.layers for value in layer))
    assert len(sizes) == 1


def test_a_prompt_of_any_length_is_read_in_parts() -> None:
    own, ids = model(), torch.randint(2, 20, (101,))
    whole, parts = read_prompt(own, ids, chunk=1000), read_prompt(own, ids, chunk=7)
    torch.testing.assert_close(parts[0], whole[0], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(parts[1][0].h, whole[1][0].h, rtol=1e-12, atol=1e-12)
    assert parts[0].shape == (1, 20)


def test_locked_dropout_holds_a_mask_for_the_whole_chunk() -> None:
    own = model(dropout=0.5, locked=True).train()
    reading = own(IDS)
    dropped = reading.features == 0
    assert (dropped == dropped[0]).all() and 0 < dropped.double().mean() < 1
    kept = ~dropped
    torch.testing.assert_close(reading.features[kept], 2 * reading.output[kept])
    fresh = model(dropout=0.5).train()(IDS).features == 0
    assert not (fresh == fresh[0]).all()


def test_the_encoder_of_a_language_model_is_that_of_a_classifier_by_name_and_shape() -> None:
    own = model()
    classifier = SequenceModel(20, 1, 6, DeepRNN(6, 6, 2, cell="gru")).double()
    weights = {name: value for name, value in own.state_dict().items() if name.startswith(("embedding.", "rnn."))}
    missing, unexpected = classifier.load_state_dict(weights, strict=False)
    assert unexpected == [] and missing == ["head.1.weight", "head.1.bias"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"both": True}, "would see the tokens"),
        ({"cutoffs": [4]}, "cannot be tied"),
        ({"tied": False, "cutoffs": [12, 4]}, "must rise within the vocabulary, from 1 to 19"),
        ({"tied": False, "cutoffs": [4, 20]}, "must rise within the vocabulary"),
        ({"tied": False, "cutoffs": [4, 12]}, "2 cutoffs leave the last cluster none of the 6 features"),
        ({"dropout": 1.0}, "dropout is a probability"),
    ],
)
def test_what_makes_no_language_model_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        model(**options)


def test_the_adaptive_softmax_is_torchs_own() -> None:
    own = model(tied=False, cutoffs=[4, 12], width=16)
    features = own(IDS).features.flatten(0, 1)
    torch.testing.assert_close(own.log_probabilities(features), own.decoder.log_prob(features))
    assert F.nll_loss(own.decoder.log_prob(features), TARGETS.flatten(), reduction="sum").item() == pytest.approx(
        own.nats(features.unflatten(0, (7, 3)), TARGETS).item(), rel=1e-12
    )


@pytest.mark.parametrize("options", [{}, {"tied": False, "cutoffs": [4, 12], "width": 16}])
def test_in_half_precision_losses_stay_whole(options: dict[str, Any]) -> None:
    own = model(**options).float()
    with torch.autocast("cpu", torch.bfloat16):
        reading = own(IDS)
        nats = own.nats(reading.features, TARGETS)
        logs = own.log_probabilities(reading.features[-1])
    nats.backward()
    assert nats.dtype == logs.dtype == torch.float32
    torch.testing.assert_close(nats, own.nats(own(IDS).features, TARGETS), rtol=0.02, atol=0)  # 8 bits of mantissa
