"""Made data of every kind, small enough to check by hand."""

import io
import random
import tarfile
from typing import Any

from src.choices import module_of
from src.data.options import BpeOptions, CharOptions, WordOptions

WORD = WordOptions(name="word", vocab_size=10_000, min_freq=1, lowercase=True, rule="words_and_marks")
BPE = BpeOptions(name="bpe", vocab_size=300, min_freq=1, lowercase=True)
CHAR = CharOptions(name="char", vocab_size=None, min_freq=1, lowercase=False)
OWN: dict[str, dict[str, Any]] = {
    "imdb": {},
    "imdb_full": {"path": None, "url": "http://127.0.0.1:9/aclImdb_v1.tar.gz", "md5": "0" * 32},
    "text_file": {
        "val_path": None,
        "test_path": None,
        "format": "auto",
        "text_column": "text",
        "label_column": "label",
        "label_separator": None,
        "encoding": "utf-8",
        "delimiter": None,
        "header": True,
        "empty": "refuse",
    },
}


def make_options(name: str, **changes: Any) -> Any:
    """The options of a data set as conf/ has them, but for the cache."""
    common = {
        "name": name,
        "tokenizer": WORD,
        "max_length": 100,
        "keep": "last",
        "holdout": 0.2,
        "split_seed": 0,
        "stratify": False,
        "embedding_path": None,
        "crop": None,
        "labelled": None,
        "cooccurrence": None,
        "cache_dir": None,
    }
    return module_of("data", name).Options(**{**common, **OWN[name], **changes})


def reviews(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Made reviews, (text, neg or pos), half and half, each different."""
    draw = random.Random(seed)
    words = {"neg": ["bad", "dull", "awful", "poor"], "pos": ["good", "fine", "superb", "great"]}
    filler = ["the", "a", "film", "plot", "actor", "scene", "it", "was", "is", "and"]
    made = []
    for number in range(count):
        label = ("neg", "pos")[number % 2]
        body = [draw.choice(filler + words[label]) for _ in range(draw.randint(3, 30))]
        made.append((f"Review {number} of {seed}: {' '.join(body)}!<br /><br />The end.", label))
    return made


def official_files(count: int = 10) -> dict[str, bytes]:
    """Names and contents as in the official archive, with ``count`` reviews of each class in each half."""
    files = {"aclImdb/README": b"read me", "aclImdb/train/unsup/0_0.txt": b"no label", "aclImdb/imdb.vocab": b"the"}
    for half, seed in (("train", 1), ("test", 2)):
        for number, (text, label) in enumerate(reviews(2 * count, seed)):
            files[f"aclImdb/{half}/{label}/{number // 2}_{number % 10}.txt"] = text.encode()
    return files


def archive_of(files: dict[str, bytes]) -> bytes:
    """Pack a .tar.gz."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()
