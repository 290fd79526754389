"""A file, a folder in a usual layout, a folder of texts; and a clear line for what is none of them."""

from pathlib import Path
from typing import Any

import pytest
from made_data import CHAR, WORD

from src.data.build import build_data
from src.data.plain_text import Options
from src.data.stream import join
from src.data.text_data import TextData
from src.errors import RequestError


def options(path: Path, **changes: Any) -> Options:
    values = {"name": "plain_text", "path": str(path), "tokenizer": CHAR, "holdout": 0.1, "cache_dir": None}
    return Options(**{**values, "embedding_path": None, "cooccurrence": None, "encoding": "utf-8", **changes})


def build(path: Path, **changes: Any) -> TextData:
    data = build_data(options(path, **changes), 0)
    assert isinstance(data, TextData)
    return data


def text(data: TextData, split: str) -> str:
    return data.encoder.decode(join(data.whole[split]).tolist())


def test_the_last_share_of_one_file_is_held_out_and_never_trained_on(tmp_path: Path) -> None:
    written = "".join(chr(ord("a") + k % 7) for k in range(95)) + "\r\nzebra\n"
    (tmp_path / "a.txt").write_bytes(written.encode())
    plain = written.replace("\r\n", "\n")
    data = build(tmp_path / "a.txt")
    cut = int(0.9 * len(plain))
    assert text(data, "train") == plain[:cut]
    assert "z" not in data.encoder.tokenizer.tokens  # the vocabulary is that of the training part
    assert len(join(data.whole["val"])) == len(plain) - cut
    again = build_data(options(tmp_path / "a.txt"), 0, data.encoder)
    assert isinstance(again, TextData) and list(again.splits) == ["val"]  # for a finished run all of it is to judge by
    assert len(join(again.whole["val"])) == len(plain)


@pytest.mark.parametrize(
    "names",
    [
        ("ptb.train.txt", "ptb.valid.txt", "ptb.test.txt"),
        ("wiki.train.tokens", "wiki.valid.tokens", "wiki.test.tokens"),
        ("train.txt", "val.txt", "test.txt"),
        ("train.txt", "valid.txt"),
    ],
)
def test_the_usual_layouts_are_recognised(tmp_path: Path, names: tuple[str, ...]) -> None:
    for number, name in enumerate(names):
        (tmp_path / name).write_text(f"a <unk> b\n c {number}\n")
    (tmp_path / "README.txt").write_text("not part of it")
    lines = WORD.model_copy(update={"rule": "whitespace_lines", "lowercase": False})
    data = build(tmp_path, tokenizer=lines)
    assert list(data.splits) == ["train", "val", "test"][: len(names)]
    assert data.encoder.tokenizer.tokens == ["<pad>", "<unk>", "\n", "0", "a", "b", "c"]
    assert join(data.whole["val"]).tolist() == [4, 1, 5, 2, 6, 1, 2]


def test_of_a_folder_of_texts_the_last_are_held_out_whole(tmp_path: Path) -> None:
    for number in range(10):
        folder = tmp_path / str(number % 2)
        folder.mkdir(exist_ok=True)
        (folder / f"{number}.txt").write_text(str(number) * 3)
    data = build(tmp_path, holdout=0.2)
    assert len(data.splits["train"]) == 8 and len(data.splits["val"]) == 2
    assert "7" not in data.encoder.tokenizer.tokens and "9" not in data.encoder.tokenizer.tokens


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, r"no \.txt file in this folder, nor one of the known layouts"),
        ({"ptb.train.txt": b"a"}, r"has ptb\.train\.txt, but no ptb\.valid\.txt to validate on"),
        ({"a.txt": b"fine", "b.txt": b""}, r"b\.txt: the file is empty"),
        ({"a.txt": b" \n\n"}, r"a\.txt: the file is empty"),
        (
            {"a.txt": b"one\ntwo\nthr\xffee\n"},
            r"a\.txt, line 3, byte 11: 0xff is not UTF-8; save .*data\.encoding=cp1252",
        ),
    ],
)
def test_what_is_no_text_is_refused_in_one_line(tmp_path: Path, files: dict[str, bytes], said: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=said) as caught:
        build(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"cannot read the data file .*nowhere\.txt: No such file"):
        build(tmp_path / "nowhere.txt")
