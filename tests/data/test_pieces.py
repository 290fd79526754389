"""A text in pieces is the text."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_data import BPE, CHAR, WORD
from torchtext.data.utils import get_tokenizer

import src.data.encoder
from src.data.encoder import TextEncoder, clean
from src.data.options import TokenizerOptions
from src.data.pieces import PIECE, pieces
from src.data.word import RULES, WordTokenizer

ODD = [
    "a",
    "B",
    "\u03a3",
    "don't",
    "\u2019",
    "!",
    "'",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\t",
    "\r\n",
    "<br />",
    "<br\n/>",
    "<br >",
    ".",
    '"',
    '<br "/>',
    ";",
    "(",
]
texts = st.lists(st.sampled_from(ODD), max_size=60).map("".join)


@given(texts, st.integers(1, 9))
def test_pieces_joined_are_the_text(text: str, size: int) -> None:
    assert "".join(pieces(text, size)) == text


@given(texts, st.integers(1, 9), st.sampled_from(sorted(RULES)))
def test_every_rule_gives_pieces_the_tokens_of_the_whole(text: str, size: int, rule: str) -> None:
    parts = [RULES[rule](clean(piece).lower()) for piece in pieces(text, size)]
    assert list(itertools.chain(*parts)) == RULES[rule](clean(text).lower())


@given(texts)
def test_the_fast_basic_english_is_torchtexts(text: str) -> None:
    assert RULES["basic_english"](text) == get_tokenizer("basic_english")(text)


class Options:
    """All that an encoder asks of a data set's options."""

    def __init__(self, tokenizer: TokenizerOptions) -> None:
        self.tokenizer = tokenizer
        self.extent = type("Extent", (), {"max_length": None, "keep": "last"})


@pytest.mark.parametrize("tokenizer", [WORD, BPE, CHAR], ids=lambda options: options.name)
def test_vocabulary_and_ids_do_not_depend_on_the_pieces(
    tokenizer: TokenizerOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    made = ["".join(rng.choice(ODD, size)) for size in (3000, 0, 1, 2000)]
    whole = TextEncoder.fit(made, Options(tokenizer), ())  # type: ignore[arg-type]
    expected = whole.encode_whole(made)
    monkeypatch.setattr(src.data.encoder, "pieces", lambda text: pieces(text, 5))
    cut = TextEncoder.fit(made, Options(tokenizer), ())  # type: ignore[arg-type]
    assert cut.to_dict() == whole.to_dict()
    found = cut.encode_whole(made)
    assert found.ids.tolist() == expected.ids.tolist() and found.offsets.tolist() == expected.offsets.tolist()


def test_a_tokenizer_never_sees_much_more_than_a_piece_of_a_long_text(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "the cat sat on the mat and the dog sat on the log\n" * (3 * PIECE // 50)
    seen, split = [], WordTokenizer._split
    monkeypatch.setattr(WordTokenizer, "_split", lambda self, part: seen.append(len(part)) or split(self, part))
    encoder = TextEncoder.fit([text], Options(WORD), ())  # type: ignore[arg-type]
    assert len(encoder.encode_whole([text]).ids) == 13 * (3 * PIECE // 50)
    assert sum(seen) == 2 * len(text) and max(seen) < 1.01 * PIECE
