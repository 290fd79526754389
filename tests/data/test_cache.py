"""The cache: right or rebuilt, and never the reason why a run fails."""

import logging
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from src.data.cache import Cache, cache_key
from src.data.split import EncodedSplit

SPLITS = {
    "train": EncodedSplit.from_sequences([[2, 3], [4]], [0, 1]),
    "val": EncodedSplit.from_sequences([[5, 6, 7]], [1]),
}
EXTRA = {"tokens": ["<pad>", "naïve"], "max_length": None}


def same(loaded: dict[str, EncodedSplit]) -> bool:
    return list(loaded) == list(SPLITS) and all(
        np.array_equal(getattr(loaded[name], part), getattr(SPLITS[name], part))
        and getattr(loaded[name], part).dtype == getattr(SPLITS[name], part).dtype
        for name in SPLITS
        for part in ("ids", "offsets", "labels")
    )


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    cache = Cache(str(tmp_path / "new" / "folder"))
    assert cache.load("a") is None
    cache.save("a", SPLITS, EXTRA)
    loaded = cache.load("a")
    assert loaded is not None
    assert same(loaded[0])
    assert loaded[1] == EXTRA
    assert cache.load("b") is None
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["a.npz"]


def test_without_a_folder_nothing_is_kept() -> None:
    cache = Cache(None)
    cache.save("a", SPLITS, EXTRA)
    assert cache.load("a") is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_a_changed_byte_is_found_or_harmless(tmp_path: Path, position: float, change: int) -> None:
    cache = Cache(str(tmp_path))
    cache.save("a", SPLITS, EXTRA)
    path = tmp_path / "a.npz"
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= change
    path.write_bytes(content)
    loaded = cache.load("a")
    assert loaded is None or (same(loaded[0]) and loaded[1] == EXTRA)


@pytest.mark.parametrize("damage", ["short", "empty", "other", "ids"])
def test_damage_is_one_warning_line(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    cache = Cache(str(tmp_path))
    cache.save("a", SPLITS, EXTRA)
    path = tmp_path / "a.npz"
    content = path.read_bytes()
    if damage == "ids":
        with ZipFile(path) as archive:
            start = archive.getinfo("train.ids.npy").header_offset
        changed = bytearray(content)
        changed[start + 200] ^= 1  # past the headers, within the numbers
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
        cache.save("a", SPLITS, EXTRA)
    (record,) = caplog.records
    assert record.getMessage().startswith("encoded data is not kept: ")
    assert cache.load("a") is None


def test_the_key_changes_with_every_part() -> None:
    base = {"content": "x", "options": {"a": 1, "b": None}}
    assert cache_key(**base) == cache_key(options={"b": None, "a": 1}, content="x")
    assert (
        len({cache_key(**base), cache_key(**{**base, "content": "y"}), cache_key(content="x", options={"a": 2})}) == 3
    )
