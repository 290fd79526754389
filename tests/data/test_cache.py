"""The cache: right or rebuilt, and never the reason why a run fails."""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import src.data.cache
from src.data.cache import Cache, Entry, Unwritten, cache_key
from src.data.split import EncodedSplit, Piece
from src.data.stream import join
from src.data.tokenizer import END_ID
from src.files import atomic_file

PIECES: dict[str, list[Piece]] = {
    "train": [(np.array([2, 3]), True), (np.array([4]), True)],
    "val": [(np.array([5, 6]), False), (np.array([700]), True)],
}
LABELS = {"train": np.array([0, 1]), "val": np.array([1])}
SPLITS = {name: EncodedSplit.from_pieces(pieces, LABELS[name]) for name, pieces in PIECES.items()}
KIND = np.dtype(np.uint16)
EXTRA = {"tokens": ["<pad>", "naïve"], "max_length": None}


def save(cache: Cache, name: str = "a") -> Entry:
    unwritten = {split: Unwritten(lambda own=own: own, LABELS[split], False) for split, own in PIECES.items()}
    return cache.save(name, unwritten, KIND, EXTRA)


def same(loaded: dict[str, EncodedSplit]) -> bool:
    return list(loaded) == list(SPLITS) and all(
        np.array_equal(getattr(loaded[name], part), getattr(SPLITS[name], part)) and loaded[name].ids.dtype == KIND
        for name in SPLITS
        for part in ("ids", "offsets", "labels")
    )


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "new" / "folder"))
    assert cache.load("a") is None
    save(cache)
    for loaded in (save(cache), cache.load("a")):
        assert loaded is not None
        assert same(loaded[0])
        assert loaded[1] == EXTRA
    assert cache.load("b") is None
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["a.zip"]


def test_arrays_are_mapped_from_the_file_where_they_can_be_used_as_they_are(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    save(cache)
    loaded = cache.load("a")
    assert loaded is not None
    for split in loaded[0].values():
        for array in (split.ids, split.offsets, split.labels):
            assert not array.flags.owndata and not array.flags.writeable
            assert array.ctypes.data % 64 == 0  # or numpy copies all of it whenever a batch is taken from it


def test_a_stream_is_written_with_an_end_after_each_text_and_read_text_by_text(tmp_path: Path) -> None:
    pieces = [(np.array([5]), False), (np.array([6]), True), (np.array([7]), True)]
    (split,) = (
        Cache(None).save("a", {"train": Unwritten(lambda: pieces, np.array([-1, -1]), True)}, KIND, {})[0].values()
    )
    assert split.ids.tolist() == [5, 6, END_ID, 7, END_ID] and join(split) is split.ids
    assert [split[0].tolist(), split[1].tolist()] == [[5, 6], [7]] and split.lengths.tolist() == [2, 1]
    assert split.take(np.array([1, 0])).ids.tolist() == [7, 5, 6] and split.cut(1, "last").ids.tolist() == [6, 7]


def test_one_that_writes_while_another_does_leaves_both_what_they_wrote(tmp_path: Path) -> None:
    cache, seen = Cache(str(tmp_path)), list[Entry]()

    def pieces() -> list[Piece]:
        if not seen:
            assert cache.load("a") is None  # what is half-written is nothing
            seen.append(save(cache))
        return PIECES["train"]

    outer, _ = cache.save("a", {"train": Unwritten(pieces, LABELS["train"], False)}, KIND, EXTRA)
    assert outer["train"].ids.tolist() == SPLITS["train"].ids.tolist() and same(seen[0][0])
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]


def test_what_breaks_off_leaves_nothing_and_what_was_killed_is_swept_up_after_a_day(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path))
    old, new = tmp_path / ".a.zip.1-00.tmp", tmp_path / ".a.zip.2-00.tmp"
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))

    def pieces() -> Iterator[Piece]:
        yield PIECES["train"][0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.save("a", {"train": Unwritten(pieces, LABELS["train"], False)}, KIND, EXTRA)
    assert cache.load("a") is None and [*tmp_path.iterdir()] == [new]


def test_a_disk_that_fills_is_done_without_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    @contextmanager
    def full(*_: Any) -> Iterator[Any]:
        with atomic_file(tmp_path / "a.zip", "w+b") as file:
            yield file
            raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(src.data.cache, "atomic_file", full)
    assert same(save(Cache(str(tmp_path)))[0]) and not [*tmp_path.iterdir()]
    assert "encoded data is not kept: cannot write" in caplog.text


def test_without_a_folder_nothing_is_kept() -> None:
    cache = Cache(None)
    assert same(save(cache)[0])
    assert cache.load("a") is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_a_changed_byte_is_found_or_harmless(tmp_path: Path, position: float, change: int) -> None:
    cache = Cache(str(tmp_path))
    save(cache)
    path = tmp_path / "a.zip"
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= change
    path.write_bytes(content)
    loaded = cache.load("a")
    assert loaded is None or (same(loaded[0]) and loaded[1] == EXTRA)


@pytest.mark.parametrize("damage", ["short", "empty", "other", "ids"])
def test_damage_is_one_warning_line(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    cache = Cache(str(tmp_path))
    save(cache)
    path = tmp_path / "a.zip"
    content = path.read_bytes()
    if damage == "ids":
        with ZipFile(path) as archive:
            start = archive.getinfo("train.ids").header_offset
        changed = bytearray(content)
        changed[start + 64] ^= 1  # past the header, within the numbers
        path.write_bytes(changed)
    else:
        path.write_bytes({"short": content[:-100], "empty": b"", "other": b"not a cache\n" * 50}[damage])
    with caplog.at_level(logging.WARNING):
        assert cache.load("a") is None
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{path} cannot be read (")
    assert "\n" not in record.getMessage()


def test_a_folder_that_cannot_be_written_is_one_warning_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(str(tmp_path / "file" / "cache"))
    with caplog.at_level(logging.WARNING):
        save(cache)
    (record,) = caplog.records
    assert record.getMessage().startswith("encoded data is not kept: ")
    assert cache.load("a") is None


def test_the_key_changes_with_every_part() -> None:
    base = {"content": "x", "options": {"a": 1, "b": None}}
    assert cache_key(**base) == cache_key(options={"b": None, "a": 1}, content="x")
    assert (
        len({cache_key(**base), cache_key(**{**base, "content": "y"}), cache_key(content="x", options={"a": 2})}) == 3
    )
