"""The pictures of the gallery are small, and the command that makes them asks for what there is."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from pages import ROOT
from PIL import Image
from test_commands import check_training

from src.config import Config

sys.path.append(str(ROOT / "scripts"))
import gallery


def test_the_pictures_of_the_book_are_small() -> None:
    assert [path.name for path in (ROOT / "docs").glob("**/*.png") if path.stat().st_size > 150_000] == []


def test_the_gallery_trains_what_can_be_trained_and_writes_both_pictures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, configured: Callable[..., Config]
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in (gallery.PICTURES, gallery.RUN):
        folder.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(gallery.RUN / "gradient_flow.png")
    monkeypatch.setattr(sys, "argv", ["gallery.py"])
    monkeypatch.setattr(gallery, "train", lambda *arguments: check_training(list(arguments), configured))
    monkeypatch.setattr(gallery, "screenshot", lambda page: Image.new("RGB", (8, 8), "red"))
    gallery.main()
    with Image.open(gallery.PICTURES / "sweep_page.png") as picture:
        assert picture.mode == "P" and picture.size == (8, 8)
    assert (gallery.PICTURES / "gradient_flow.png").exists()
