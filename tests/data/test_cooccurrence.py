"""Vectors from co-occurrence: by hand on small texts, and alike for words that keep the same company."""

import numpy as np
import pytest
import torch

from src.data.cooccurrence import SPREAD, cooccurrence_vectors, count_pairs, positive_information
from src.data.split import EncodedSplit


def test_counts_by_hand() -> None:
    split = EncodedSplit.from_sequences([[2, 3, 4], [3, 1, 2]], [0, 1])
    counts = count_pairs(split, 5).toarray()
    expected = np.zeros((5, 5))
    expected[2, 3] = expected[3, 2] = 1 + 0.5  # side by side in the first text, two apart in the second
    expected[3, 4] = expected[4, 3] = 1
    expected[2, 4] = expected[4, 2] = 0.5
    np.testing.assert_allclose(counts, expected)  # nothing across texts, nothing with a reserved id


def test_information_by_hand() -> None:
    counts = count_pairs(EncodedSplit.from_sequences([[2, 3], [2, 3], [4, 5]], [0, 0, 0]), 6)
    words = np.array([2, 2, 1, 1.0])
    smooth = words**0.75
    expected = np.log(2 * smooth.sum() / (2 * smooth[1]))
    assert positive_information(counts)[2, 3] == pytest.approx(expected)


def test_words_in_the_same_company_get_alike_vectors() -> None:
    rng = np.random.default_rng(0)
    texts = [[int(word), 10 + int(word) % 2 * 5 + int(rng.integers(5))] for word in rng.integers(2, 10, 4000)]
    vectors = cooccurrence_vectors(EncodedSplit.from_sequences(texts, [0] * len(texts)), 21, 4)
    cosine = torch.nn.functional.cosine_similarity(vectors[2:10, None], vectors[None, 2:10], dim=-1)
    same = torch.arange(8)[:, None] % 2 == torch.arange(8) % 2
    assert cosine[same].min() > cosine[~same].max() + 0.5
    torch.testing.assert_close(vectors[2:20].square().mean(1).sqrt(), torch.full((18,), SPREAD))
    assert not vectors[:2].any() and not vectors[20].any()  # reserved ids, and a word that never occurs
