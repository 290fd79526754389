"""Own files: what works, and one clear line for everything that is wrong with them."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers import composed
from made_data import make_options

from src.arguments import take_verbatim
from src.config import compose_config
from src.data.corpus import Corpus
from src.data.text_file import TextFileSource
from src.errors import RequestError

TABLE = "text,label\ngood film,pos\nbad film,neg\nfine film,pos\npoor film,neg\n"
SKIP = "; data.empty=skip leaves such rows out"
UTF8 = " is not UTF-8; save the file as UTF-8, or name its own: data.encoding=cp1252"
Write = Callable[[str, str | bytes], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def read(path: str, fit: bool = True, **changes: object) -> Corpus:
    return TextFileSource(make_options("text_file", path=path, **changes), 0).read(fit)


def complaint(path: str, fit: bool = True, **changes: object) -> str:
    with pytest.raises(RequestError) as caught:
        read(path, fit, **changes)
    message = str(caught.value)
    assert "\n" not in message
    return message.removeprefix(f"{path}").lstrip(",: ")


def pairs(corpus: Corpus, *splits: str) -> set[tuple[str, str]]:
    return {
        (text, corpus.class_names[label])
        for split in splits
        for text, label in zip(corpus.splits[split].texts, corpus.splits[split].labels, strict=True)
    }


EXPECTED = {("good film", "pos"), ("bad film", "neg"), ("fine film", "pos"), ("poor film", "neg")}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("f.csv", TABLE),
        ("f.CSV", "\ufeff" + TABLE.replace("\n", "\r\n")),
        ("f.tsv", TABLE.replace(",", "\t")),
        ("f.csv", "id,label,text\n" + "".join(f"{i},{b},{a}\n" for i, (a, b) in enumerate(sorted(EXPECTED)))),
        ("f.jsonl", "\n".join(json.dumps({"label": b, "text": a}) for a, b in sorted(EXPECTED)) + "\n\n"),
        ("f.ndjson", "\n".join(json.dumps({"label": b, "text": a}) for a, b in sorted(EXPECTED))),
    ],
)
def test_every_format_gives_the_same_examples(write: Write, name: str, content: str) -> None:
    corpus = read(write(name, content), holdout=0.25)
    assert pairs(corpus, "train", "val") == EXPECTED
    assert (len(corpus.splits["train"].texts), len(corpus.splits["val"].texts)) == (3, 1)
    assert corpus.class_names == ("neg", "pos")


def test_format_option_overrules_the_ending(write: Write) -> None:
    assert pairs(read(write("f.txt", TABLE), format="csv"), "train", "val") == EXPECTED


def test_quoted_fields_may_hold_commas_quotes_and_lines(write: Write) -> None:
    path = write("f.csv", 'text,label\n"one, ""two""\nthree",a\nfour,b\n')
    assert ('one, "two"\nthree', "a") in pairs(read(path, False), "val")


def test_columns_go_by_name(write: Write) -> None:
    path = write("f.csv", TABLE.replace("text,label", "review,verdict"))
    assert pairs(read(path, text_column="review", label_column="verdict"), "train", "val") == EXPECTED


def test_numeric_labels_are_ordered_as_numbers(write: Write) -> None:
    path = write("f.csv", "text,label\n" + "".join(f"film {n},{n}\n" for n in (10, 9, -1, 2)))
    assert read(path).class_names == ("-1", "2", "9", "10")


def test_labels_of_more_digits_than_python_reads_are_names(write: Write) -> None:
    long = "9" * 5000
    path = write("f.csv", "text,label\n" + f"a film,{long}\na plot,1\n" * 4)
    assert read(path).class_names == ("1", long)


def test_json_labels_may_be_numbers_or_booleans(write: Write) -> None:
    path = write("f.jsonl", "".join(f'{{"text": "film", "label": {label}}}\n' for label in (1, 0) * 5))
    assert read(path).class_names == ("0", "1")
    path = write("g.jsonl", "".join(f'{{"text": "film", "label": {label}}}\n' for label in ("true", "false") * 5))
    assert read(path).class_names == ("False", "True")


def test_val_and_test_files_are_taken_whole(write: Write) -> None:
    path, val, test = (write(f"{name}.csv", TABLE) for name in "abc")
    corpus = read(path, val_path=val, test_path=test)
    assert list(corpus.splits) == ["train", "val", "test"]
    assert all(pairs(corpus, split) == EXPECTED for split in corpus.splits)


def test_the_holdout_does_not_touch_the_test_file(write: Write) -> None:
    path, test = write("a.csv", TABLE), write("c.csv", TABLE)
    corpus = read(path, test_path=test)
    assert pairs(corpus, "test") == EXPECTED
    assert pairs(corpus, "train").isdisjoint(pairs(corpus, "val"))


def test_a_file_to_evaluate_on_is_all_val(write: Write) -> None:
    corpus = read(write("f.csv", "text,label\ngood film,pos\nfine film,pos\n"), fit=False)
    assert list(corpus.splits) == ["val"]
    assert len(corpus.splits["val"].texts) == 2


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("f.csv", TABLE.replace("text,", "txet,"), "no column 'text' (did you mean txet?)"),
        ("f.csv", TABLE.replace(",label", ",kind"), "no column 'label'; known: kind, text"),
        ("f.tsv", TABLE, "no column 'text': its fields are parted by ',': data.delimiter=comma"),
        ("f.csv", TABLE.replace("text,label", "text,text,label"), "two columns are called 'text'"),
        ("f.csv", TABLE + " ,pos\n", "line 6: the text is empty" + SKIP),
        ("f.csv", TABLE + '"a\nb",neg\n,pos\n', "line 8: the text is empty" + SKIP),
        ("f.csv", TABLE + "a film, \n", "line 6: the label is empty" + SKIP),
        ("f.csv", TABLE + "a, film,pos\n", "line 6: 3 fields, the header has 2"),
        ("f.csv", TABLE + "a film\n", "line 6: 1 fields, the header has 2"),
        ("f.csv", TABLE + '"a film,pos\n', "line 6: not valid CSV: unexpected end of data"),
        ("f.csv", TABLE.replace("neg", "pos"), "every label is 'pos'; telling classes apart takes two of them"),
        (
            "f.csv",
            TABLE.encode() + b"caf\xe9,pos\n",
            "line 6, byte 69: 0xe9" + UTF8,
        ),
        ("f.csv", TABLE.encode("utf-16"), "line 1, byte 0: 0xff" + UTF8.replace("cp1252", "utf-16")),
        ("f.csv", "", "the file is empty; expected one labelled text a line"),
        ("f.csv", "text,label\n", "the file is empty; expected one labelled text a line"),
        ("f.jsonl", "\n\n", "the file is empty; expected one labelled text a line"),
        ("f.jsonl", '{"text": "a", "label": 1}\n{"text": "a"', "line 2: not valid JSON: Expecting ',' delimiter at 13"),
        ("f.jsonl", '["a", 1]\n', "line 1: expected an object with text and label"),
        ("f.jsonl", '{"text": "a", "labels": 1}\n', "line 1: no key 'label' (did you mean labels?)"),
        ("f.jsonl", '{"text": 3, "label": 1}\n', "line 1: text is 3, expected a string"),
        ("f.jsonl", '{"text": "a", "label": null}\n', "line 1: label is null, expected a name or number"),
        ("f.jsonl", '{"text": "", "label": 1}\n', "line 1: the text is empty" + SKIP),
        ("f.jsonl", '{"text": "\\ud800", "label": 1}\n', "line 1: holds half of a surrogate pair, which is no text"),
        ("f.jsonl", "[" * 100_000 + "\n", "line 1: a number too long or brackets too deep to read"),
        ("f.parquet", TABLE, "its ending does not tell the format; give data.format=csv, tsv, jsonl or json"),
        (
            "f.csv",
            "text,label\na film,pos\na plot,neg\n",
            "2 examples are too few to hold some of them out; give more, or a data.val_path",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(write: Write, name: str, content: str | bytes, says: str) -> None:
    assert complaint(write(name, content)) == says


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"cannot read the data file .*none\.csv: No such file"):
        TextFileSource(make_options("text_file", path=str(tmp_path / "none.csv")), 0).fingerprint()
    with pytest.raises(RequestError, match="Is a directory"):
        TextFileSource(make_options("text_file", path=str(tmp_path)), 0).fingerprint()


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_label_that_training_lacks_is_named_with_its_line(write: Write, split: str) -> None:
    path, other = write("a.csv", TABLE), write("b.csv", "text,label\na film,pos\na plot,pso\n")
    with pytest.raises(RequestError) as caught:
        read(path, **{f"{split}_path": other})
    assert str(caught.value) == f"{other}, line 3: the training file has no label 'pso' (did you mean pos?)"


def test_the_fingerprint_changes_with_any_of_the_files(write: Write) -> None:
    path, val = write("a.csv", TABLE), write("b.csv", TABLE)

    def fingerprint() -> str:
        return TextFileSource(make_options("text_file", path=path, val_path=val), 0).fingerprint()

    before = fingerprint()
    assert before == fingerprint()
    write("b.csv", TABLE + "a film,pos\n")
    assert fingerprint() != before


def test_a_rare_class_is_held_out_in_its_share_by_default(write: Write) -> None:
    assert compose_config(composed("data=text_file", "data.path=x.csv")).data.stratify
    path = write("f.csv", "text,label\n" + "a film,common\n" * 200 + "a film,rare\n" * 5)
    for seed in range(10):
        corpus = TextFileSource(make_options("text_file", path=path, stratify=True), seed).read(fit=True)
        assert [split.labels.count(1) for split in corpus.splits.values()] == [4, 1]


def test_a_rare_one_of_several_labels_is_held_out_in_its_share(write: Write) -> None:
    path = write("f.csv", "text,label\n" + "a film,common|usual\n" * 100 + "a film,\n" * 95 + "a film,rare|usual\n" * 5)
    how = {"path": path, "stratify": True, "label_separator": "|"}
    for seed in range(10):
        corpus = TextFileSource(make_options("text_file", **how), seed).read(fit=True)
        found = [[sum(label in own for own in split.labels) for label in range(3)] for split in corpus.splits.values()]
        assert found == [[80, 4, 84], [20, 1, 21]]
        assert [len(split.texts) for split in corpus.splits.values()] == [160, 40]


@pytest.mark.parametrize(
    ("name", "content", "how"),
    [
        ("f.csv", TABLE.replace(",", ";"), {"delimiter": ";"}),
        ("f.csv", TABLE.replace(",", ";"), {"delimiter": "semicolon"}),
        ("f.csv", TABLE.replace(",", "\t"), {"delimiter": "tab"}),
        ("f.csv", TABLE.replace("text,label", " text , label "), {}),
        ("f.csv", "\n\n" + TABLE, {}),
        ("f.csv", TABLE.split("\n", 1)[1], {"header": False}),
        ("f.csv", "".join(f"{i},{b},{a}\n" for i, (a, b) in enumerate(sorted(EXPECTED))),
         {"header": False, "text_column": 3, "label_column": "2"}),
        ("f.csv", TABLE.encode("utf-16"), {"encoding": "utf-16"}),
        ("f.csv", TABLE.encode("cp1252"), {"encoding": "cp1252"}),
        ("f.json", json.dumps([{"label": b, "text": a} for a, b in sorted(EXPECTED)], indent=1), {}),
        ("f.json", "".join(json.dumps({"label": b, "text": a}) + "\n" for a, b in sorted(EXPECTED)), {}),
        ("f.csv", TABLE + ",pos\na film, \n", {"empty": "skip"}),
        ("f.jsonl", "".join(json.dumps({"label": b, "text": a}) + "\n" for a, b in (*sorted(EXPECTED), (None, "pos"))),
         {"empty": "skip"}),
    ],
)  # fmt: skip
def test_a_file_may_be_written_in_other_ways(
    write: Write, name: str, content: str | bytes, how: dict[str, object]
) -> None:
    assert pairs(read(write(name, content), **how), "train", "val") == EXPECTED


def test_letters_come_out_of_another_encoding_as_they_were_written(write: Write) -> None:
    path = write("f.csv", (TABLE + "caf\u00e9 film,pos\n").encode("cp1252"))
    assert ("caf\u00e9 film", "pos") in pairs(read(path, encoding="cp1252"), "train", "val")


def test_rows_left_out_are_counted(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    read(write("f.csv", TABLE + " ,pos\n,\na film,\n"), empty="skip")
    assert "3 of 7 rows have an empty text or label and are left out" in caplog.text


@pytest.mark.parametrize(
    ("name", "content", "how", "says"),
    [
        ("f.csv", TABLE.replace(",", ";"), {},
         "no column 'text': its fields are parted by ';': data.delimiter=semicolon"),
        ("f.csv", TABLE, {"header": False, "text_column": "3"}, "no column '3'; known: 1, 2"),
        ("f.csv", "a,b\nc\n", {"header": False}, "line 2: 1 fields, the first line has 2"),
        ("f.csv", b"\xff\xfea", {"encoding": "utf-16"}, "byte 2: not utf-16 (truncated data)"),
        ("f.csv", "text,label\n,pos\n", {"empty": "skip"}, "the file is empty; expected one labelled text a line"),
        ("f.json", '[{"text": "a", "label": 1}, 3]', {}, "entry 2: expected an object with text and label"),
        ("f.json", '[{"text": "a",\n "label": 1},\n', {}, "line 3: not valid JSON: Expecting value at 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_files_in_other_ways_is_said_too(
    write: Write, name: str, content: str | bytes, how: dict[str, object], says: str
) -> None:
    assert complaint(write(name, content), **how) == says


@pytest.mark.parametrize(
    "wrong",
    [
        *("data.encoding=utf8x", "data.encoding=hex", "data.delimiter=;;", "data.header=1", "data.empty=drop"),
        *("data.label_separator=", "data.text_column=label", "data.format=xml"),
    ],
)
def test_options_that_mean_nothing_are_refused(wrong: str) -> None:
    with pytest.raises(RequestError, match=wrong.split("=")[0].replace("data.text_column", "data")):
        compose_config(composed("data=text_file", "data.path=x.csv", *take_verbatim([wrong])))


@pytest.mark.parametrize("typed", [";", "|", "tab", "\\t"])
def test_a_delimiter_is_taken_as_typed(typed: str) -> None:
    options = compose_config(composed("data=text_file", "data.path=x.csv", *take_verbatim([f"data.delimiter={typed}"])))
    assert options.data.delimiter == {"tab": "\t", "\\t": "\t"}.get(typed, typed)


def test_a_table_is_held_in_less_than_twice_its_own_size(write: Write) -> None:
    lines = (f"a film of {number} letters \U0001f600,{('pos', 'neg')[number % 2]}\n" for number in range(20_000))
    path = write("f.csv", "text,label\n" + "".join(lines))
    tracemalloc.start()
    try:
        corpus = read(path, stratify=True)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(corpus.splits["val"].texts) == 4000
    assert held < 2 * Path(path).stat().st_size and peak < 4 * Path(path).stat().st_size
