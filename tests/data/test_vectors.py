"""Pretrained vectors from a file."""

from pathlib import Path

import pytest
import torch

from src.data.tokenizer import PAD, UNK
from src.data.vectors import load_vectors
from src.errors import RequestError

TOKENS = [PAD, UNK, "film", "good", "zebra"]
GLOVE = "good 1 2 3\nfilm 4 5 6\nother 7 8 9\n. . . 1 1 1\n"


def write(folder: Path, content: str | bytes) -> str:
    path = folder / "vectors.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def test_known_tokens_get_their_vectors_and_padding_zeros(tmp_path: Path) -> None:
    table, coverage = load_vectors(write(tmp_path, GLOVE), TOKENS)
    assert table.shape == (5, 3)
    assert table.dtype == torch.float32
    assert table[2].tolist() == [4, 5, 6]
    assert table[3].tolist() == [1, 2, 3]
    assert table[0].tolist() == [0, 0, 0]
    assert coverage == 2 / 4


def test_tokens_the_file_lacks_get_the_same_noise_each_time(tmp_path: Path) -> None:
    first, second = (load_vectors(write(tmp_path, GLOVE), TOKENS).table for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first[1], first[4])
    assert first[4].abs().sum() > 0


def test_tokens_with_blanks_in_them_are_read(tmp_path: Path) -> None:
    assert load_vectors(write(tmp_path, GLOVE), [PAD, UNK, ". . ."]).table[2].tolist() == [1, 1, 1]


def test_a_word2vec_header_is_skipped(tmp_path: Path) -> None:
    assert load_vectors(write(tmp_path, "4 3\n" + GLOVE), TOKENS).coverage == 0.5


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (GLOVE + "zebra 1 2\n", "line 5: 2 numbers, expected 3"),
        (GLOVE + "\n", "line 5: 0 numbers, expected 3"),
        ("good 1 2 3\nfilm 4 five 6\n", "line 2: could not convert string to float: 'five'"),
        ("good 1 2 nan\n", "line 1: a number that is not finite"),
        ("good\n", "line 1: 0 numbers, expected some"),
        (b"good 1 2 3\nf\xffilm 1 2 3\n", "line 2: not UTF-8 text"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, content: str | bytes, says: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(RequestError) as caught:
        load_vectors(path, TOKENS)
    assert str(caught.value) == f"{path}, {says}"


def test_a_file_without_any_of_the_tokens_is_refused(tmp_path: Path) -> None:
    for content in ("", "other 1 2 3\n"):
        with pytest.raises(RequestError, match="has no vector for any of the 5 tokens"):
            load_vectors(write(tmp_path, content), TOKENS)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"data\.embedding_path=.*none.*: No such file"):
        load_vectors(str(tmp_path / "none"), TOKENS)
