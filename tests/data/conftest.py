"""Made data as files."""

import csv
import hashlib
from pathlib import Path

import pytest
from hypothesis import settings
from made_data import archive_of, official_files, reviews

import src.data.imdb

# The same examples each time, and no clock: a busy machine must not fail a test.
settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    """Forty made reviews as a CSV."""
    path = tmp_path / "reviews.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *reviews(40)])
    return path


@pytest.fixture
def official_archive(tmp_path: Path) -> Path:
    path = tmp_path / "aclImdb_v1.tar.gz"
    path.write_bytes(archive_of(official_files()))
    return path


@pytest.fixture
def official_folder(tmp_path: Path) -> Path:
    for name, content in official_files().items():
        path = tmp_path / "unpacked" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "unpacked" / "aclImdb"


@pytest.fixture
def small_imdb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``data=imdb`` made of forty reviews sorted by label; the second word of each stands in no other."""
    path = tmp_path / "combined.csv"
    made = [
        (f"Review w{i}: {text.split(':')[1]}", ("neg", "pos").index(label))
        for i, (text, label) in enumerate(reviews(40))
    ]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label", "source"))
        writer.writerows((text, label, "imdb") for text, label in sorted(made, key=lambda row: row[1]))
        writer.writerow(("Not this one", 1, "rotten_tomatoes"))
    monkeypatch.setattr(src.data.imdb, "package_file", lambda: path)
    monkeypatch.setattr(src.data.imdb, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
