"""Broken data files: CSV, TSV, JSONL, a JSON list and plain text, as people have them and as they come damaged."""

import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path

from fuzzing.case import Case
from fuzzing.layout import take_runs
from fuzzing.templates import LANGUAGE, LIMITED, TEXT, rows
from fuzzing.values import broken

Breaker = Callable[[random.Random, bytes], bytes]
FORMATS = ("csv", "tsv", "jsonl", "json", "txt")


def written(draw: random.Random, kind: str) -> bytes:
    """A good file."""
    found = rows(draw.choice([1, 2, 3, 8, 30]), draw.randrange(100))
    match kind:
        case "csv" | "tsv":
            between = "," if kind == "csv" else "\t"
            return "".join(f"{text}{between}{label}\n" for text, label in [("text", "label"), *found]).encode()
        case "jsonl":
            return "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in found).encode()
        case "json":
            return json.dumps([{"text": text, "label": label} for text, label in found], ensure_ascii=False).encode()
    return "\n".join(text for text, _ in found).encode()


def _somewhere(piece: bytes) -> Breaker:
    def insert(draw: random.Random, content: bytes) -> bytes:
        at = draw.randrange(len(content) + 1)
        return content[:at] + piece + content[at:]

    return insert


def _lines(change: Callable[[random.Random, list[bytes]], list[bytes]]) -> Breaker:
    return lambda draw, content: b"\n".join(change(draw, content.split(b"\n")))


def _replaced(old: bytes, new: bytes) -> Breaker:
    return lambda draw, content: content.replace(old, new)


def _recoded(encoding: str) -> Breaker:
    return lambda draw, content: content.decode("utf-8", "replace").encode(encoding, "replace")


BREAKERS: dict[str, Breaker] = {
    "an unbalanced quote": _somewhere(b'"'),
    "a NUL byte": _somewhere(b"\0"),
    "many NUL bytes": lambda draw, content: b"\0" * draw.choice([1, 100, 5000]),
    "a bad byte": _somewhere(b"\xff"),
    "half a character": _somewhere("ü".encode()[:1]),
    "half of a surrogate pair": _somewhere(b"\\ud800"),
    "a carriage return": _somewhere(b"\r"),
    "odd line ends": _replaced(b"\n", b"\r"),
    "Windows' line ends": _replaced(b"\n", b"\r\n"),
    "a line separator": _somewhere("\u2028".encode()),
    "a form feed": _somewhere(b"\x0c"),
    "a byte order mark": lambda draw, content: b"\xef\xbb\xbf" + content,
    "a byte order mark in the middle": _somewhere(b"\xef\xbb\xbf"),
    "UTF-16": _recoded("utf-16"),
    "UTF-16 without a mark": _recoded("utf-16-le"),
    "UTF-32": _recoded("utf-32"),
    "Latin-1": _recoded("latin-1"),
    "UTF-7": _recoded("utf-7"),
    "cut": lambda draw, content: content[: draw.randrange(len(content) + 1)],
    "empty": lambda draw, content: b"",
    "blanks only": lambda draw, content: draw.choice([b" ", b"\n", b"\n\n \n", b"\t\n"]),
    "one line": _lines(lambda draw, lines: lines[:1]),
    "two lines": _lines(lambda draw, lines: lines[:2]),
    "no first line": _lines(lambda draw, lines: lines[1:]),
    "a line twice": _lines(lambda draw, lines: [*lines, *lines[:1]]),
    "an empty line": _lines(lambda draw, lines: [*lines[:2], b"", *lines[2:]]),
    "a ragged row": _lines(lambda draw, lines: [*lines[:2], b"a,b,c,d\te\tf", *lines[2:]]),
    "a short row": _lines(lambda draw, lines: [*lines[:2], b"alone", *lines[2:]]),
    "an empty label": _lines(lambda draw, lines: [line.replace(b"neg", b"") for line in lines]),
    "blank labels": _replaced(b"neg", b"   "),
    "one class": _replaced(b"neg", b"pos"),
    "a class of one": _lines(
        lambda draw, lines: [lines[0], lines[1].replace(b"neg", b"odd"), *lines[2:]] if lines[1:] else lines
    ),
    "numbers for labels": lambda draw, content: content.replace(b"neg", b"0").replace(b"pos", b"1"),
    "long numbers for labels": _replaced(b"neg", b"9" * 5000),
    "JSON numbers for labels": lambda draw, content: content.replace(b'"neg"', b"1e999").replace(b'"pos"', b"NaN"),
    "a null label": _replaced(b'"neg"', b"null"),
    "a list for a label": _replaced(b'"neg"', b'["neg"]'),
    "true for a label": _replaced(b'"neg"', b"true"),
    "an object for a text": _replaced(b'"text": "', b'"text": {}, "t": "'),
    "a key twice": _replaced(b'"label"', b'"text": "b", "label"'),
    "no text column": _replaced(b"text", b"txt"),
    "two text columns": _replaced(b"label", b"text"),
    "blanks in the header": _replaced(b"label", b" label "),
    "semicolons": _replaced(b",", b";"),
    "a huge field": lambda draw, content: content.replace(b"film", b"x" * draw.choice([131_073, 1_000_000])),
    "a huge word count": lambda draw, content: content.replace(b"film", b"w " * 20_000),
    "deep brackets": lambda draw, content: b"[" * draw.choice([1000, 100_000]),
    "not JSON": lambda draw, content: b"{'text': 1}",
    "a scalar": lambda draw, content: draw.choice([b"1", b'"a"', b"null", b"[]", b"{}", b"[1]", b"[[]]", b"true"]),
    "an unclosed list": lambda draw, content: content.rstrip(b"]\n"),
    "gzip": lambda draw, content: gzip.compress(content, mtime=0),
    "gzip cut": lambda draw, content: gzip.compress(content, mtime=0)[:20],
    "an archive's first bytes": lambda draw, content: b"PK\x03\x04" + content,
    "random bytes": lambda draw, content: draw.randbytes(300),
    "no letters": lambda draw, content: content.replace(b"film", b"...").replace(b"the", b"!!"),
    "unseen letters": lambda draw, content: content.replace(b"film", "\U0001f600\u200d\ufe0f".encode()),
    "bidirectional marks": _somewhere("\u202e\u0000".encode()),
    "many classes": lambda draw, content: b"text,label\n" + b"".join(b"t%d,c%d\n" % (n, n) for n in range(300)),
    "nothing": lambda draw, content: content,
}
NAMES = ["f{}", "F{}".upper(), "a b'c,d=e{}", "ünï{}", "-f{}", "f.gz", "f", "f{}.gz", "${{x}}{}", ".f{}", "f{}.bak"]


def file(seed: int, number: int) -> Case:
    """One file, and a request for it."""
    draw = random.Random(f"{seed}/files/{number}")
    kind = draw.choice(FORMATS)
    words = [draw.choice(list(BREAKERS)) for _ in range(draw.choice([1, 1, 2]))]
    content = written(draw, kind)
    for word in words:
        content = BREAKERS[word](draw, content)
    name = draw.choice([f"f.{kind}"] * 4 + [name.format(f".{draw.choice(FORMATS)}") for name in NAMES])
    folder_instead = draw.random() < 0.03
    door, arguments, stdin, names = _request(draw, kind, name, content)

    def prepare(folder: Path, templates: Path) -> None:
        take_runs(*names)(folder, templates)
        (folder / name).mkdir() if folder_instead else (folder / name).write_bytes(content)

    return Case("files", number, f"{kind}, {' and '.join(words)}", door, arguments, stdin, prepare)


def _request(
    draw: random.Random, kind: str, name: str, content: bytes
) -> tuple[str, list[str], bytes, tuple[str, ...]]:
    reading = draw.choice([[]] * 3 + [[_reading(draw)], [_reading(draw), _reading(draw)]])
    labelled = kind != "txt" or draw.random() < 0.2
    match draw.choices(["train", "val_path", "vectors", "evaluate", "predict", "generate"], [60, 8, 6, 12, 7, 7])[0]:
        case "val_path":
            return "train", [*LIMITED, *TEXT, f"data.{draw.choice(['val', 'test'])}_path='{name}'"], b"", ()
        case "vectors":
            return "train", [*LIMITED, *draw.choice([TEXT, LANGUAGE]), f"data.embedding_path='{name}'"], b"", ()
        case "evaluate":
            run, data = draw.choice([("classifier", "text_file"), ("writer", "plain_text"), ("averaged", "text_file")])
            what = draw.choice([[], [f"data={data}"], ["data=plain_text"]])
            return "evaluate", [f"run=runs/{run}", *what, f"data.path={name}", *reading], b"", (run,)
        case "predict":
            return "predict", ["run=runs/classifier"], content, ("classifier",)
        case "generate":
            return "generate", ["run=runs/writer", "length=3"], content, ("writer",)
    if labelled:
        base = [*draw.choice([TEXT, TEXT, TEXT, [*TEXT, "task=multilabel", "data.label_separator='|'"]]), *reading]
    else:
        base = [*LANGUAGE, *(option for option in reading if "tokenizer" in option or "holdout" in option)]
    return "train", [*LIMITED, *(o for o in base if not o.startswith("data.path=")), f"data.path={name}"], b"", ()


def _reading(draw: random.Random) -> str:
    fitting = ["data.format=csv", "data.format=tsv", "data.format=jsonl", "data.format=json", "data.encoding=latin-1"]
    fitting += [
        "data.encoding=utf-16",
        "data.encoding=utf-8-sig",
        "data.encoding=cp1252",
        "data.encoding=utf-7",
        "data.encoding=idna",
    ]
    fitting += [
        "data.encoding=unicode_escape",
        "data.encoding=rot13",
        "data.delimiter=tab",
        "data.delimiter=;",
        "data.delimiter=' '",
    ]
    fitting += [
        "data.header=false",
        "data.empty=skip",
        "data.empty=skip",
        "data/tokenizer=bpe",
        "data/tokenizer=char",
        "data.holdout=0.9",
    ]
    fitting += [
        "data.holdout=0.001",
        "data.max_length=1",
        "data.crop=1",
        "data.keep=both",
        "data.labelled=1",
        "data.labelled=5",
    ]
    fitting += [
        "data.stratify=false",
        "data.text_column=label",
        "data.label_column=1",
        "data.text_column=0",
        "data.cooccurrence=2",
    ]
    fitting += [
        "data.tokenizer.vocab_size=3",
        "data.tokenizer.min_freq=100",
        "data.tokenizer.rule=whitespace",
        "task.class_weights=balanced",
    ]
    fitting += ["data.delimiter=\\x00", f"data.delimiter={broken(draw)}", f"data.encoding={broken(draw)}"]
    return draw.choice(fitting)
