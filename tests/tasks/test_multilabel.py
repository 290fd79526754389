"""Texts with any number of labels, from the file to the answer."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import f1_score

from src.config import Config
from src.data.build import build_data
from src.errors import RequestError
from src.tasks.build import build_task

Typed = Callable[..., tuple[int, str, str]]
Configured = Callable[..., Config]
WORDS = {"sport": "ball", "politics": "vote", "music": "song"}


@pytest.fixture
def topics(tmp_path: Path) -> Path:
    """Texts in which a word stands for each of their labels."""
    draw, rows = random.Random(0), []
    for _ in range(300):
        labels = [name for name in WORDS if draw.random() < 0.4]
        text = draw.choices(["the", "a", "of"], k=3) + [WORDS[name] for name in labels]
        draw.shuffle(text)
        rows.append(f"{' '.join(text)},{' | '.join(labels)}\n")
    path = tmp_path / "topics.csv"
    path.write_text("text,label\n" + "".join(rows))
    return path


def test_a_text_may_have_several_labels_or_none(topics: Path, configured: Configured) -> None:
    options = ("data=text_file", f"data.path={topics}", "task=multilabel", "data.label_separator='|'")
    cfg = configured(*options, "data.cache_dir=null")
    data = build_data(cfg.data, 0)
    assert data.spec.class_names == ("music", "politics", "sport") and data.spec.several_labels
    for split, part in data.splits.items():
        for example in range(0, len(part), 7):
            words = data.text(split, example).split()
            expected = [WORDS[name] in words for name in data.spec.class_names]
            assert part.labels[example].tolist() == expected
    assert {tuple(row) for row in data.splits["val"].labels.tolist()} >= {(0, 0, 0), (1, 1, 1)}
    batch = next(iter(data.loader("val", 4).epoch()))
    assert batch.targets.shape == (4, 3) and batch.targets.is_floating_point()


@pytest.mark.parametrize("label", ['["sport", "music", "sport"]', '"sport|music"'])
def test_json_may_have_a_list_of_labels(tmp_path: Path, configured: Configured, label: str) -> None:
    (tmp_path / "f.jsonl").write_text(f'{{"text": "a", "label": {label}}}\n{{"text": "b", "label": []}}\n' * 5)
    options = ("data=text_file", f"data.path={tmp_path}/f.jsonl", "task=multilabel", "data.label_separator='|'")
    data = build_data(configured(*options, "data.cache_dir=null").data, 0)
    assert {tuple(row) for part in data.splits.values() for row in part.labels.tolist()} == {(0, 0), (1, 1)}


def test_it_learns_reports_and_answers(typed: Typed, topics: Path, tmp_path: Path) -> None:
    code, _, err = typed(
        *("train", "data=text_file", f"data.path={topics}", "task=multilabel", "data.label_separator=|"),
        *("model=rnn", "depth=1", "width=16", "task.embedding=8", "task.pooling=max", "epochs=20", "lr=2e-2"),
        *("logger=none", "threads=1", "hydra.run.dir=run"),
    )
    assert code == 0, err
    best = json.loads((tmp_path / "run" / "summary.json").read_text())["best"]
    assert best["val/micro_f1"] > 0.95 > best["val/baseline"] > 0.4
    classes = pd.read_csv(tmp_path / "run" / "classes.csv").set_index("class")
    assert classes["f1"].mean() == pytest.approx(best["val/macro_f1"], abs=1e-6)
    code, out, err = typed("predict", "run=run", "text=the ball of a song")
    assert code == 0, err
    assert set(json.loads(out)["labels"]) == {"sport", "music"}
    code, out, err = typed("evaluate", "run=run")
    assert code == 0, err
    assert json.loads(out)["val/micro_f1"] == pytest.approx(best["val/micro_f1"], abs=1e-6)


def test_metrics_and_baseline_are_those_of_scikit_learn(topics: Path, configured: Configured) -> None:
    options = ("data=text_file", f"data.path={topics}", "task=multilabel", "data.label_separator='|'")
    cfg = configured(*options, "data.cache_dir=null", "width=4")
    data = build_data(cfg.data, 0)
    task = build_task(cfg, data.spec)
    model, metrics = task.build_model(cfg, data.spec).eval(), task.new_metrics()
    for batch in data.loader("val", 7).epoch():
        metrics.update(task.step(model, batch), batch)
    given = task.probabilities(model, data.loader("val", 7)) > 0.5
    there, found = data.split("val").labels, metrics.compute()
    for average in ("micro", "macro"):
        assert found[f"{average}_f1"] == pytest.approx(f1_score(there, given, average=average, zero_division=0))
    assert found["exact_match"] == pytest.approx((given == there).all(1).mean())
    constant = [np.tile([a, b, c], (len(there), 1)) for a in (0, 1) for b in (0, 1) for c in (0, 1)]
    expected = max(f1_score(there, same, average="micro", zero_division=0) for same in constant)
    assert task.baseline(data, "val")["micro_f1"] == pytest.approx(expected)


def test_tasks_and_data_that_do_not_fit_are_refused(topics: Path, configured: Configured) -> None:
    data = ("data=text_file", f"data.path={topics}", "data.cache_dir=null")
    several = configured(*data, "data.label_separator='|'")
    with pytest.raises(RequestError, match="this data has several: task=multilabel"):
        build_task(several, build_data(several.data, 0).spec)
    one = configured(*data, "task=multilabel", "data.empty=skip")
    with pytest.raises(RequestError, match=r"data=text_file has, with a data\.label_separator"):
        build_task(one, build_data(one.data, 0).spec)
