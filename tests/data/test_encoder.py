"""Text to ids and back, with every tokenizer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_data import BPE, CHAR, WORD, make_options

from src.data.char import CharTokenizer
from src.data.encoder import TextEncoder, clean
from src.data.options import BpeOptions, CharOptions, WordOptions
from src.data.tokenizer import END_ID, PAD, PAD_ID, UNK, UNK_ID
from src.data.word import WordTokenizer

TEXTS = ["The film, the film! It isn't bad.", "A bad film<br /><br />a BAD film?", "the the the end"]
BOTH = pytest.mark.parametrize("tokenizer", [WORD, BPE], ids=["word", "bpe"])


def fit(tokenizer: WordOptions | BpeOptions | CharOptions, **changes: object) -> TextEncoder:
    return TextEncoder.fit(TEXTS, make_options("imdb", tokenizer=tokenizer, **changes), ("neg", "pos"))


def word(**changes: object) -> WordOptions:
    return WordOptions(**{**WORD.model_dump(), **changes})


def test_vocabulary_is_by_frequency_then_alphabet_after_the_reserved_tokens() -> None:
    tokens = fit(word(rule="words")).tokenizer.tokens
    assert tokens == [PAD, UNK, "the", "film", "bad", "a", "end", "isn't", "it"]


def test_vocab_size_counts_the_reserved_tokens_as_keras_does() -> None:
    assert fit(word(vocab_size=4, rule="words")).tokenizer.tokens == [PAD, UNK, "the", "film"]
    assert fit(word(vocab_size=4)).vocab_size == 4


def test_min_freq_leaves_rare_words_out() -> None:
    assert fit(word(min_freq=3, rule="words")).tokenizer.tokens == [PAD, UNK, "the", "film", "bad"]


@pytest.mark.parametrize(
    ("rule", "tokens"),
    [
        ("words", ["it", "isn't", "bad", "no"]),
        ("words_and_marks", ["it", "isn't", "bad", "!", "(", "no", ")"]),
        ("basic_english", ["it", "isn", "'", "t", "bad", "!", "(", "no", ")"]),
        ("whitespace", ["it", "isn't", "bad!", "(no)"]),
        ("whitespace_lines", ["it", "isn't", "bad!", "(no)"]),
    ],
)
def test_rules_split_as_they_say(rule: str, tokens: list[str]) -> None:
    made = WordTokenizer.fit(["It isn't bad! (no)"], word(rule=rule))
    assert made.decode(next(made.encode(["It isn't bad! (no)"]))).split() == tokens


def test_unknown_words_share_an_id_and_never_grow_the_vocabulary() -> None:
    encoder = fit(WORD)
    before = encoder.to_dict()
    assert encoder.encode(["zebra quagga"])[0].tolist() == [UNK_ID, UNK_ID]
    assert encoder.to_dict() == before
    assert encoder.vocab_size == len(before["tokenizer"]["tokens"])


@BOTH
def test_reserved_tokens_in_a_text_are_text(tokenizer: WordOptions | BpeOptions) -> None:
    ids = fit(tokenizer).encode([f"{PAD} bad {UNK} film"])[0]
    assert PAD_ID not in ids
    if tokenizer is BPE:
        assert UNK_ID not in ids
    whitespace = fit(word(rule="whitespace"))
    assert PAD_ID not in whitespace.encode([PAD])[0]


@BOTH
def test_a_text_without_tokens_is_one_unknown_token(tokenizer: WordOptions | BpeOptions) -> None:
    split = fit(tokenizer).encode(["", "bad"])
    assert split[0].tolist() == [UNK_ID]
    assert split.lengths.min() >= 1


@BOTH
def test_line_breaks_and_typographic_apostrophes_are_cleaned(tokenizer: WordOptions | BpeOptions) -> None:
    encoder = fit(tokenizer)
    assert encoder.decode(encoder.encode(["isn\u2019t<br/>bad<BR>film"])[0].tolist()) == "isn't bad film"


@BOTH
def test_length_rule_holds_for_new_texts(tokenizer: WordOptions | BpeOptions) -> None:
    whole = fit(tokenizer, max_length=None).encode(TEXTS)
    cut = fit(tokenizer, max_length=3, keep="last").encode(TEXTS)
    assert [cut[i].tolist() for i in range(3)] == [whole[i][-3:].tolist() for i in range(3)]


@BOTH
@given(text=st.text())
def test_an_encoder_read_back_from_json_encodes_the_same(tokenizer: WordOptions | BpeOptions, text: str) -> None:
    encoder = ENCODERS[tokenizer.name]
    again = AGAIN[tokenizer.name]
    assert again.encode([text])[0].tolist() == encoder.encode([text])[0].tolist()
    assert (again.class_names, again.vocab_size) == (encoder.class_names, encoder.vocab_size)


@given(st.lists(st.sampled_from(["the", "film", "bad", "a", "isn't", "!", "?", "."]), min_size=1))
def test_known_words_come_back_from_decoding(words: list[str]) -> None:
    encoder = ENCODERS["word"]
    assert encoder.decode(encoder.encode([" ".join(words)])[0].tolist()) == " ".join(words)


@given(st.text(min_size=1))
def test_byte_pairs_give_any_text_back(text: str) -> None:
    encoder = ENCODERS["bpe"]
    ids = encoder.encode([text])[0].tolist()
    assert PAD_ID not in ids
    assert UNK_ID not in ids
    assert encoder.decode(ids) == clean(text)


def test_byte_pairs_stay_within_the_vocabulary_asked_for() -> None:
    encoder = ENCODERS["bpe"]
    assert encoder.vocab_size == len(set(encoder.tokenizer.tokens)) <= BPE.vocab_size
    assert encoder.tokenizer.tokens[:2] == [PAD, UNK]


CASED_BPE = BpeOptions(name="bpe", vocab_size=300, min_freq=1, lowercase=False)
ENCODERS = {"word": fit(WORD, max_length=None), "bpe": fit(CASED_BPE, max_length=None)}
AGAIN = {name: TextEncoder.from_dict(json.loads(json.dumps(made.to_dict()))) for name, made in ENCODERS.items()}


def test_characters_are_by_frequency_then_code_point_and_decoding_gives_the_text_back() -> None:
    tokenizer = CharTokenizer.fit(["abbccc d", "€"], CHAR)
    assert tokenizer.tokens == [PAD, UNK, "c", "b", " ", "a", "d", "€"]
    (ids,) = tokenizer.encode(["cab €"])
    assert tokenizer.decode(ids) == "cab €" and tokenizer.characters == [1] * 8
    assert next(tokenizer.encode(["xaX"])).tolist() == [UNK_ID, 5, UNK_ID] and tokenizer.unknown("xaX") == ["x", "X"]
    few = CharTokenizer.fit(["aabbc"], CHAR.model_copy(update={"vocab_size": 4}))
    assert few.tokens == [PAD, UNK, "a", "b"]


def test_ends_of_lines_are_words_where_the_literature_counts_them() -> None:
    made = WordTokenizer.fit(["a <unk> b\nb\n"], word(rule="whitespace_lines", lowercase=False))
    (ids,) = made.encode(["a <unk> b\nb\n"])
    assert [made.tokens[id_] for id_ in ids] == ["a", UNK, "b", "\n", "b", "\n"]
    assert "".join(map(made.writer(), ids)) == " a <unk> b\nb\n"


@given(st.text())
def test_the_characters_that_ids_stand_for_add_up_to_those_of_the_text(text: str) -> None:
    tokenizer = fit(BPE).tokenizer
    (ids,) = tokenizer.encode([text])
    characters = tokenizer.characters
    assert characters is not None
    assert sum(characters[id_] for id_ in ids) == len(tokenizer.decode(ids))


@pytest.mark.parametrize("tokenizer", [WORD, BPE, CHAR], ids=["word", "bpe", "char"])
def test_a_writer_gives_piece_by_piece_what_decoding_gives_at_once(tokenizer: WordOptions | BpeOptions) -> None:
    made = TextEncoder.fit(["naïve – \U0001f600 film, a film"], make_options("imdb", tokenizer=tokenizer), ()).tokenizer
    (ids,) = made.encode(["a naïve \U0001f600 film, –"])
    write = made.writer()
    assert "".join(map(write, ids)).strip() == made.decode(ids)
    assert write(END_ID) == "\n" and write(ids[0]).strip() == "a"
