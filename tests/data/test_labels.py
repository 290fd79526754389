"""What a person should hear about the classes of a file."""

import logging
from pathlib import Path

import pytest
from made_data import make_options

from src.data.build import build_data
from src.data.labels import look_alikes, some_of


@pytest.mark.parametrize(
    ("names", "alike"),
    [
        (["0", "0.0", "1", "1.0"], [["0", "0.0"], ["1", "1.0"]]),
        (["0", "01", "1", "1.0", "1e0"], [["01", "1", "1.0", "1e0"]]),
        (["Pos", "neg", "pos"], [["Pos", "pos"]]),
        (["very  good", "very good", "very\u00a0good"], [["very  good", "very good", "very\u00a0good"]]),
        (["caf\u00e9", "cafe\u0301", "pos\u200b", "pos"], [["caf\u00e9", "cafe\u0301"], ["pos\u200b", "pos"]]),
        (["-1", "1", "10", "1_0", "nan", "inf", "a", "b"], []),
        (["90071992547409931", "90071992547409932"], []),
    ],
)
def test_labels_that_look_alike_are_found_and_others_are_not(names: list[str], alike: list[list[str]]) -> None:
    assert look_alikes(names) == alike


def test_a_line_lists_a_few_names_and_counts_the_others() -> None:
    assert some_of(["a", "b"]) == "a, b"
    assert some_of([str(number) for number in range(1000)]).endswith("8, 9, … and 990 more")


def warnings_of(path: Path, content: str, caplog: pytest.LogCaptureFixture, **changes: object) -> list[str]:
    path.write_text(content)
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        build_data(make_options("text_file", path=str(path), **changes), 0)
    return [record.getMessage() for record in caplog.records]


def test_look_alikes_are_named_also_where_the_texts_come_from_the_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = "text,label\n" + "a film,pos\na film, Pos\na film,neg\n" * 9
    for _ in range(2):
        found = warnings_of(tmp_path / "f.csv", content, caplog, stratify=True, cache_dir=str(tmp_path))
        assert found == [
            "the labels 'Pos', 'pos' are different classes; if they mean the same, write them the same way"
        ]


def test_classes_without_examples_to_learn_from_or_to_be_judged_by_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = "text,label\n" + "a film,pos\na film,neg\n" * 20 + "a film,rare\n"
    assert warnings_of(tmp_path / "f.csv", content, caplog, stratify=True) == [
        "the class has no example to be judged by (val): rare"
    ]
    (tmp_path / "val.csv").write_text("text,label\na film,rare\n")
    assert warnings_of(tmp_path / "f.csv", content, caplog, val_path=str(tmp_path / "val.csv")) == [
        "2 classes have no example to be judged by (val): neg, pos"
    ]


def test_classes_that_all_have_examples_are_no_matter_for_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = "text,label\n" + "a film,pos\na film,neg\n" * 20 + "a film,rare\n" * 2
    assert warnings_of(tmp_path / "f.csv", content, caplog, stratify=True) == []
