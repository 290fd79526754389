"""Word vectors from the training texts alone: which words stand near which (pre-training without more data)."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from src.data.split import EncodedSplit
from src.data.tokenizer import UNK_ID

WINDOW = 5
"""Words to either side that count as near, with a weight of 1 over their distance."""
CONTEXT_POWER = 0.75
"""Smooths how often a context occurs, which keeps rare ones from looking telling."""
SPREAD = 0.07
"""Root mean square of a vector's numbers."""


def cooccurrence_vectors(split: EncodedSplit, vocab_size: int, size: int) -> Tensor:
    """[vocab_size, size] vectors by singular value decomposition of positive pointwise mutual information.

    Levy, Goldberg & Dagan 2015, "Improving distributional similarity with lessons learned from word embeddings":
    ``max(0, log p(w, c) / (p(w) p(c)^0.75))``, of which ``U sqrt(S)`` are the vectors. Words that are never near
    another one, and the reserved ids, get zeros.
    """
    counts = count_pairs(split, vocab_size)
    pairs = positive_information(counts)
    left, singular, _ = randomized_svd(pairs, size, n_oversamples=20, n_iter=4, random_state=0)
    vectors = left * np.sqrt(singular)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled = np.divide(SPREAD * np.sqrt(size) * vectors, norms, out=np.zeros_like(vectors), where=norms > 1e-8)
    return torch.from_numpy(scaled.astype(np.float32))


def count_pairs(split: EncodedSplit, vocab_size: int) -> sparse.csr_matrix:
    """[V, V] how often words stand near each other in one text, both ways, without reserved ids."""
    ids = split.ids
    texts = np.repeat(np.arange(len(split)), np.diff(split.offsets))
    total = sparse.csr_matrix((vocab_size, vocab_size), dtype=np.float64)
    for distance in range(1, WINDOW + 1):
        word, context = ids[:-distance], ids[distance:]
        near = (texts[:-distance] == texts[distance:]) & (word > UNK_ID) & (context > UNK_ID)
        weights = np.full(int(near.sum()), 1 / distance)
        total = total + sparse.coo_matrix((weights, (word[near], context[near])), shape=total.shape).tocsr()
    return (total + total.T).tocsr()


def positive_information(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """[V, V] positive pointwise mutual information in nats, of the pairs that occur."""
    pairs = counts.tocoo()
    words: NDArray[np.float64] = np.asarray(counts.sum(1)).ravel()
    contexts = words**CONTEXT_POWER
    information = np.log(pairs.data * contexts.sum() / (words[pairs.row] * contexts[pairs.col]))
    kept = information > 0
    return sparse.csr_matrix((information[kept], (pairs.row[kept], pairs.col[kept])), shape=counts.shape)
