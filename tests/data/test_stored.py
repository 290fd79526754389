"""A text in a file is read as if it were whole, wherever its blocks end."""

import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_data import BPE, CHAR, WORD

import src.data.cache
import src.data.char
import src.data.encoder
import src.data.files
from src.data.build import build_data
from src.data.encoder import TextEncoder
from src.data.files import open_text, read_text
from src.data.options import TokenizerOptions
from src.data.pieces import batches, pieces
from src.data.plain_text import Options
from src.data.stored import StoredText
from src.data.stream import join
from src.errors import RequestError

LETTERS = ["a", "B", " ", "  ", "\n", "\n\n", "\r\n", "\r", "é", "日", "\U0001f600", "<br />", "."]
texts = st.lists(st.sampled_from(LETTERS), max_size=40).map("".join)
repeated = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@repeated
@given(texts, st.integers(1, 9), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gb18030"]), st.data())
def test_blocks_joined_are_the_text_with_plain_line_ends_in_every_encoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, block: int, encoding: str, data: st.DataObject
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(text.encode(encoding))
    monkeypatch.setattr(src.data.files, "BLOCK", block)
    plain = text.replace("\r\n", "\n")
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(plain))] * 2)))
    named = {"utf-8-sig": "utf-8", "utf-16-le": "utf-16"}.get(encoding, encoding)  # with a mark and without
    assert str(StoredText(path, named)) == plain
    assert str(StoredText(path, named, start, stop)) == plain[start:stop]
    assert [*pieces(StoredText(path, named), 7)] == [*pieces(plain, 7)]
    if plain.strip():
        assert StoredText(path, named).measure() == len(plain)


ENDS = {
    "lines": "the cat sat on the mat, and\nthe dog on the log.\n" * 40,
    "no last line end": "a film\n\na plot" * 30,
    "windows": "the cat\r\nsat on\r\n\r\nthe mat\r" * 40,
    "one line": "the cat sat on the mat and the dog on the log " * 40,
    "no blanks": "日本語テキスト" * 60,
    "letters of many bytes": "naïve – \U0001f600 film \u2019quoted\u2019 日本 ΑΣ\n" * 40,
    "html": "a<br />b <br/> c<br  />d\n" * 40,
}


def options_of(path: Path, tokenizer: TokenizerOptions) -> Options:
    """A language model's text, cached in a folder beside it."""
    return Options(
        name="plain_text",
        path=str(path),
        encoding="utf-8",
        tokenizer=tokenizer,
        holdout=0.3,
        embedding_path=None,
        cooccurrence=None,
        cache_dir=str(path.parent / "cache"),
    )


@pytest.mark.parametrize("tokenizer", [WORD, BPE, CHAR], ids=lambda options: options.name)
@pytest.mark.parametrize("kind", ENDS)
def test_ids_and_vocabulary_of_a_file_are_those_of_its_text_held_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, tokenizer: TokenizerOptions
) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(ENDS[kind].encode())
    options = options_of(path, tokenizer)
    whole = ENDS[kind].replace("\r\n", "\n")
    cut = int(len(whole) * 0.7)
    expected = TextEncoder.fit([whole[:cut]], options, ())
    monkeypatch.setattr(src.data.files, "BLOCK", 13)
    monkeypatch.setattr(src.data.encoder, "pieces", lambda text: pieces(text, 5))
    for _ in range(2):  # encoded, and from the cache
        data: Any = build_data(options, 0)
        assert data.encoder.to_dict() == expected.to_dict()
        for split, text in (("train", whole[:cut]), ("val", whole[cut:])):
            assert join(data.whole[split]).tolist() == expected.encode_whole([text]).ids.tolist()
            assert data.text(split, 0) == text


@pytest.mark.parametrize("block", [1, 3, 100])
@pytest.mark.parametrize(
    ("content", "encoding", "said"),
    [
        (b"one\ntwo\nthr\xffee\n", "utf-8", "line 3, byte 11: 0xff is not UTF-8; save .* data.encoding=cp1252"),
        (b"\xef\xbb\xbfone\ncaf\xe9", "utf-8", "line 2, byte 10: 0xe9 is not UTF-8; .* data.encoding=cp1252"),
        ("a".encode("utf-16"), "utf-8", r"line 1, byte 0: 0xff is not UTF-8; .* data.encoding=utf-16"),
        (b"abc\x81", "cp1252", r"byte 3: not cp1252 \(.*\); try data.encoding=utf-8 or latin-1"),
        ("ab".encode("utf-16")[:-1], "utf-16", r"byte 4: not utf-16 \(.*\)$"),
        (b"abc\x82", "shift_jis", r"byte 3: not shift_jis \(.*\); try"),
    ],
)
def test_another_encoding_is_named_with_its_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, encoding: str, said: str, block: int
) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    monkeypatch.setattr(src.data.files, "BLOCK", block)
    with pytest.raises(RequestError, match=f"a.txt, {said}"):
        read_text(tmp_path / "a.txt", encoding)
    with (
        pytest.raises(RequestError, match=f"a.txt, {said}"),
        open_text(tmp_path / "a.txt", encoding, newline="") as file,
    ):
        file.read()


def test_a_file_that_changes_while_it_is_read_is_refused_and_not_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("the cat sat\n" * 20)
    options = options_of(path, CHAR)
    fit = TextEncoder.fit
    monkeypatch.setattr(TextEncoder, "fit", lambda *args: [fit(*args), path.write_text("the dog sat\n" * 20)][0])
    with pytest.raises(RequestError, match="changed while they were read"):
        build_data(options, 0)
    assert not [*(tmp_path / "cache").iterdir()]


def test_a_long_text_is_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, line = tmp_path / "a.txt", "the cat sat on the mat, and the dog on the log.\n"
    path.write_text(line * 20_000)
    monkeypatch.setattr(src.data.files, "BLOCK", 1 << 14)
    monkeypatch.setattr(src.data.encoder, "pieces", lambda text: pieces(text, 1 << 12))
    monkeypatch.setattr(src.data.char, "batches", lambda texts: batches(texts, 1 << 12))
    monkeypatch.setattr(src.data.cache, "_READ", 1 << 12)
    options = Options(
        name="plain_text",
        path=str(path),
        encoding="utf-8",
        tokenizer=CHAR,
        holdout=0.1,
        embedding_path=None,
        cooccurrence=None,
        cache_dir=str(tmp_path),
    )
    tracemalloc.start()
    try:
        build_data(options, 0)
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 3
    finally:
        tracemalloc.stop()
