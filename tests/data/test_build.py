"""From options to batches, through the cache."""

import json
import logging
from pathlib import Path

import pytest
import torch
from made_data import BPE, WORD, make_options

from src.data.build import build_data
from src.data.encoder import TextEncoder
from src.data.text_data import TextData
from src.data.text_file import TextFileSource
from src.data.tokenizer import PAD_ID, UNK_ID
from src.errors import RequestError


def same(one: TextData, other: TextData) -> bool:
    return (
        list(one.splits) == list(other.splits)
        and all(
            getattr(one.splits[name], part).tolist() == getattr(other.splits[name], part).tolist()
            for name in one.splits
            for part in ("ids", "offsets", "labels")
        )
        and one.encoder.to_dict() == other.encoder.to_dict()
        and one.spec.baseline == other.spec.baseline
    )


@pytest.mark.parametrize("tokenizer", [WORD, BPE], ids=["word", "bpe"])
def test_the_cache_changes_nothing(csv_file: Path, tmp_path: Path, tokenizer: object) -> None:
    def build(**changes: object) -> TextData:
        return build_data(make_options("text_file", path=str(csv_file), tokenizer=tokenizer, **changes), 0)

    cached = {"cache_dir": str(tmp_path / "cache")}
    plain, first, second = build(), build(**cached), build(**cached)
    assert same(plain, first)
    assert same(plain, second)
    assert [second.text("val", i) for i in range(8)] == [plain.text("val", i) for i in range(8)]
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_a_cached_set_is_not_read_again_until_its_text_is_asked_for(
    csv_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = make_options("text_file", path=str(csv_file), cache_dir=str(tmp_path))
    build_data(options, 0)
    reads = []
    real = TextFileSource.read
    monkeypatch.setattr(TextFileSource, "read", lambda self, fit: reads.append(1) or real(self, fit))
    data = build_data(options, 0)
    assert not reads
    assert data.text("train", 0) != data.text("train", 1)
    assert len(reads) == 1


def test_one_cache_entry_serves_every_length(csv_file: Path, tmp_path: Path) -> None:
    def build(length: int | None, keep: str) -> TextData:
        options = make_options(
            "text_file", path=str(csv_file), cache_dir=str(tmp_path / "cache"), max_length=length, keep=keep
        )
        return build_data(options, 0)

    whole, first, last = build(None, "last"), build(4, "first"), build(4, "last")
    assert len(list((tmp_path / "cache").iterdir())) == 1
    assert first.splits["val"][0].tolist() == whole.splits["val"][0][:4].tolist()
    assert last.splits["val"][0].tolist() == whole.splits["val"][0][-4:].tolist()
    assert (first.encoder.max_length, first.encoder.keep) == (4, "first")


@pytest.mark.parametrize(
    "changes",
    [{"holdout": 0.5}, {"split_seed": 1}, {"tokenizer": BPE}, {"text_column": "label", "label_column": "text"}],
)
def test_what_changes_the_ids_changes_the_key(csv_file: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    for way in ({}, changes):
        build_data(make_options("text_file", path=str(csv_file), cache_dir=str(tmp_path / "cache"), **way), 0)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_a_changed_file_is_encoded_again(csv_file: Path, tmp_path: Path) -> None:
    options = make_options("text_file", path=str(csv_file), cache_dir=str(tmp_path / "cache"))
    build_data(options, 0)
    with csv_file.open("a") as file:
        file.write("another film,neg\n")
    assert sum(len(split) for split in build_data(options, 0).splits.values()) == 41


def test_a_damaged_cache_is_rebuilt_with_a_warning(
    csv_file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = make_options("text_file", path=str(csv_file), cache_dir=str(tmp_path / "cache"))
    before = build_data(options, 0)
    (entry,) = (tmp_path / "cache").iterdir()
    whole = entry.read_bytes()
    entry.unlink()  # what the data above is mapped from stays
    entry.write_bytes(whole[: len(whole) // 2])
    caplog.clear()  # a run of another test may have made the log talkative
    with caplog.at_level(logging.WARNING, logger="src"):
        assert same(build_data(options, 0), before)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert entry.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_done_without(csv_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    options = make_options("text_file", path=str(csv_file), cache_dir=str(tmp_path / "file" / "cache"))
    assert len(build_data(options, 0).splits["val"]) == 8


def test_the_spec_says_what_a_task_needs(csv_file: Path) -> None:
    data = build_data(make_options("text_file", path=str(csv_file)), 0)
    spec = data.spec
    assert (spec.class_names, spec.feature_size, spec.embedding) == (("neg", "pos"), None, None)
    assert (spec.pad_id, spec.unk_id) == (PAD_ID, UNK_ID)
    assert spec.vocab_size == data.encoder.vocab_size == len(data.encoder.tokenizer.tokens)
    positive = data.splits["val"].labels.mean()
    assert spec.baseline["val"]["accuracy"] == max(positive, 1 - positive)


def test_batches_hold_the_texts_they_name(csv_file: Path) -> None:
    data = build_data(make_options("text_file", path=str(csv_file)), 0)
    loader = data.loader("train", 5, shuffle=True, seed=3, bucket=True)
    for examples, batch in zip(loader.batches(1), loader.epoch(1), strict=True):
        for column, example in enumerate(examples):
            encoded = data.encoder.encode([data.text("train", example)])[0]
            length = int(batch.lengths[column])
            assert batch.inputs[:length, column].tolist() == encoded.tolist()
            assert (batch.inputs[length:, column] == PAD_ID).all()


def test_pretrained_vectors_reach_the_spec(csv_file: Path, tmp_path: Path) -> None:
    (tmp_path / "vectors.txt").write_text("film 1 2\ngood 3 4\n")
    options = make_options("text_file", path=str(csv_file), embedding_path=str(tmp_path / "vectors.txt"))
    data = build_data(options, 0)
    assert data.spec.embedding is not None
    assert data.spec.embedding.shape == (data.spec.vocab_size, 2)
    assert torch.equal(data.spec.embedding[data.encoder.tokenizer.tokens.index("good")], torch.tensor([3.0, 4.0]))


def test_a_split_that_is_not_there_is_named(csv_file: Path) -> None:
    data = build_data(make_options("text_file", path=str(csv_file)), 0)
    with pytest.raises(RequestError, match="no split 'test'; known: train, val"):
        data.loader("test", 4)


def encoder_of(csv_file: Path, **changes: object) -> TextEncoder:
    trained = build_data(make_options("text_file", path=str(csv_file), **changes), 0)
    return TextEncoder.from_dict(json.loads(json.dumps(trained.encoder.to_dict())))


def test_a_finished_run_reads_a_new_file_with_its_own_encoder(csv_file: Path, tmp_path: Path) -> None:
    encoder = encoder_of(csv_file, max_length=3)
    new = tmp_path / "new.csv"
    new.write_text("text,label\nokapi quagga zebra dodo,pos\nthe film plot actor,pos\n")
    options = make_options("text_file", path=str(new), cache_dir=str(tmp_path / "cache"))
    for _ in range(2):  # encoded, and from the cache
        data = build_data(options, 0, encoder)
        assert list(data.splits) == ["val"]
        assert data.splits["val"].labels.tolist() == [1, 1]  # the run's numbers, though the file has one class only
        assert data.splits["val"][0].tolist() == [UNK_ID] * 3
        assert data.encoder == encoder
        assert data.text("val", 1) == "the film plot actor"


def test_two_runs_do_not_share_a_cache_entry_of_a_new_file(csv_file: Path, tmp_path: Path) -> None:
    options = make_options("text_file", path=str(csv_file), cache_dir=str(tmp_path / "cache"))
    for tokenizer in (WORD, BPE):
        encoder = encoder_of(csv_file, tokenizer=tokenizer)
        ids = build_data(options, 0, encoder).splits["val"][0].tolist()
        assert ids == encoder.encode([build_data(options, 0, encoder).text("val", 0)])[0].tolist()


def test_a_label_the_run_does_not_know_is_named(csv_file: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.csv"
    new.write_text("text,label\na film,pos\na plot,so-so\n")
    with pytest.raises(RequestError, match="does not know the label 'so-so' of this data; it tells apart neg, pos"):
        build_data(make_options("text_file", path=str(new)), 0, encoder_of(csv_file))
