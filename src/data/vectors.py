"""Pretrained word vectors from a local file in the format of GloVe (Pennington et al. 2014)."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from src.data.tokenizer import PAD_ID
from src.errors import RequestError


class Vectors(NamedTuple):
    """Word vectors for a vocabulary."""

    table: Tensor
    """[V, E] float32"""
    coverage: float
    """Share of the vocabulary that the file knows."""


def load_vectors(path: str, tokens: Sequence[str]) -> Vectors:
    """Pick the vectors of ``tokens`` out of a file: a token and its E numbers a line, with blanks between them.

    A first line with the two counts that word2vec writes is skipped. Tokens that the file lacks get normal noise as
    wide as the vectors found (always the same), padding gets zeros.

    Raises:
        RequestError: no such file, a line that is not a vector of the same length, or no token found at all.
    """
    rows = {token: row for row, token in enumerate(tokens) if row != PAD_ID}
    found: dict[int, NDArray[np.float32]] = {}
    size = None
    for number, line in _lines(path):
        if number == 1 and _is_header(line):
            continue
        blanks = line.count(" ")
        size = size or blanks
        if size == 0 or blanks < size:
            raise RequestError(f"{path}, line {number}: {blanks} numbers, expected {size or 'some'}")
        # Some of GloVe's tokens hold blanks themselves: then the numbers are counted from the right.
        token = line.partition(" ")[0] if blanks == size else line.rsplit(" ", size)[0]
        if (row := rows.get(token)) is not None:
            found[row] = _parse(line.rsplit(" ", size)[1:], path, number)
    if not found or size is None:
        raise RequestError(f"{path} has no vector for any of the {len(tokens)} tokens of the vocabulary")
    known = np.stack(list(found.values()))
    table = np.random.default_rng(0).normal(0.0, known.std(), (len(tokens), size)).astype(np.float32)
    table[list(found)] = known
    table[PAD_ID] = 0
    return Vectors(torch.from_numpy(table), len(found) / len(rows))


def _lines(path: str) -> Iterator[tuple[int, str]]:
    try:
        with Path(path).open("rb") as file:
            for number, line in enumerate(file, start=1):
                try:
                    yield number, line.decode().rstrip()
                except UnicodeDecodeError:
                    raise RequestError(f"{path}, line {number}: not UTF-8 text") from None
    except OSError as error:
        raise RequestError(f"data.embedding_path={path}: {error.strerror}") from error


def _is_header(line: str) -> bool:
    return len(line.split()) == 2 and all(part.isdigit() for part in line.split())


def _parse(numbers: list[str], path: str, line: int) -> NDArray[np.float32]:
    try:
        vector = np.array(numbers, dtype=np.float32)
    except ValueError as error:
        raise RequestError(f"{path}, line {line}: {error}") from None
    if not np.isfinite(vector).all():
        raise RequestError(f"{path}, line {line}: a number that is not finite")
    return vector
