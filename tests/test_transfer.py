"""Starting a run from another: what goes over, what does not fit, and how levels learn apart."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from helpers import write_reviews
from torch import nn

from deep_rnn import DeepRNN
from src.config import Config, compose_config, read_config
from src.errors import RequestError
from src.modules.sequence import SequenceModel
from src.restore import restore
from src.training.checkpoint import load_checkpoint
from src.training.finetuning import Unfreezing, levels_of
from src.training.optim import build_optimizer

Typed = Callable[..., tuple[int, str, str]]
STACK = ["model=gru", "depth=2", "width=6", "task.embedding=5"]
COMMON = [*STACK, "logger=none", "trainer.progress=false", "trainer.summary=false", "threads=1", "batch_size=4"]


def data_of(folder: Path) -> list[str]:
    return ["data=text_file", f"data.path={folder / 'reviews.csv'}"]


@pytest.fixture
def pretrained(typed: Typed, tmp_path: Path) -> Path:
    """A language model of a few made reviews."""
    write_reviews(tmp_path / "reviews.csv")
    language_model = ["task=language_model", "task.bptt=5", "epochs=1", "clip=1.0"]
    code, _, err = typed("train", *data_of(tmp_path), *language_model, *COMMON, "hydra.run.dir=lm")
    assert code == 0, err
    return tmp_path / "lm"


def classify(typed: Typed, folder: Path, *more: str) -> tuple[int, str, str]:
    return typed("train", *data_of(folder), *COMMON, f"init_from={folder / 'lm'}", "hydra.run.dir=classifier", *more)


def test_a_classifier_starts_with_the_embedding_and_the_stack_of_a_language_model(
    typed: Typed, tmp_path: Path, pretrained: Path
) -> None:
    # The first step has a learning rate of nothing, so that the weights are still where they started.
    frozen = ["epochs=1", "max_steps=1", "scheduler=warmup", "scheduler.warmup_steps=1000000000"]
    code, _, err = classify(typed, tmp_path, *frozen)
    assert code == 0, err
    theirs, ours = (load_checkpoint(tmp_path / run / "best.ckpt")["model"] for run in ("lm", "classifier"))
    taken = [name for name in ours if name.startswith(("embedding.", "rnn."))]
    assert len(taken) == 9, taken  # the embedding, and four of each of two layers
    for name in taken:
        rows = slice(1, None) if name == "embedding.weight" else slice(None)
        torch.testing.assert_close(ours[name][rows], theirs[name][rows], rtol=0, atol=1e-6)
    assert not ours["embedding.weight"][0].any(), "padding has a vector"
    assert read_config(tmp_path / "classifier").init_from == str(pretrained)


def test_a_run_that_started_from_another_resumes_without_it(typed: Typed, tmp_path: Path, pretrained: Path) -> None:
    assert classify(typed, tmp_path, "epochs=2", "finetune=ulmfit", "max_steps=6")[0] == 0
    pretrained.rename(tmp_path / "gone")
    code, _, err = typed("train", "resume=classifier", "max_steps=null")
    assert code == 0, err
    assert restore(tmp_path / "classifier").cfg.init_from == str(pretrained)


def test_a_language_model_of_a_file_goes_on_from_another_of_the_same_file_with_the_same_holdout(
    typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("book.txt").write_text("the cat sat on the mat and the dog sat on the log " * 40)
    book = ["data=plain_text", "task.bptt=5", "epochs=1", "clip=1.0", *COMMON]
    assert typed("train", *book, "data.path=book.txt", "hydra.run.dir=lm")[0] == 0
    again = ["train", *book, f"data.path={tmp_path}/./book.txt", "init_from=lm"]
    code, _, err = typed(*again, "hydra.run.dir=again")
    assert (code, err) == (0, "")
    code, _, err = typed(*again, "data.holdout=0.3", "hydra.run.dir=other")
    assert code == 2 and "it was trained on texts that this run holds out" in err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["width=7"], "it has width=6, this run width=7"),
        (["depth=3"], "it has depth=2, this run depth=3"),
        (["model=lstm"], "it has model.cell=gru, this run model.cell=lstm"),
        (["bidirectional=true"], "it has bidirectional=false, this run bidirectional=true"),
        (["link=residual"], "it has link="),
        (["task.embedding=4"], "it has task.embedding=5, this run task.embedding=4"),
        (["data.tokenizer.vocab_size=9"], "another vocabulary: it knows 16 tokens, this run 9"),
        (["data/tokenizer=bpe", "data.tokenizer.vocab_size=300"], "another vocabulary: its tokenizer is word"),
        (["data.split_seed=5"], "it was trained on texts that this run holds out"),
        (["data.holdout=0.5"], "it was trained on texts that this run holds out"),
    ],
)
def test_a_run_that_does_not_fit_is_refused_by_the_name_of_what_differs(
    typed: Typed, tmp_path: Path, pretrained: Path, change: list[str], message: str
) -> None:
    code, _, err = classify(typed, tmp_path, "epochs=1", *change)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "classifier").exists()


@pytest.mark.parametrize("change", ["another shape", "lost"])
def test_a_checkpoint_of_another_model_than_its_configuration_says_is_refused(
    typed: Typed, tmp_path: Path, pretrained: Path, change: str
) -> None:
    state = load_checkpoint(pretrained / "best.ckpt")
    name = "rnn.layers.0.cells.0.weight_hh"
    if change == "lost":
        del state["model"][name]  # the layer would start as it was drawn, in silence
    else:
        state["model"][name] = torch.zeros(3)
    torch.save(state, pretrained / "best.ckpt")
    code, _, err = classify(typed, tmp_path, "epochs=1")
    assert code == 2 and len(err.splitlines()) == 1 and "the checkpoint is of another model" in err and name in err


def test_a_folder_that_is_no_run_is_refused(typed: Typed, tmp_path: Path) -> None:
    write_reviews(tmp_path / "reviews.csv")
    code, _, err = classify(typed, tmp_path)
    assert code == 2
    assert f"init_from={tmp_path / 'lm'}: no such folder" in err


# ------------------------------------------------------------------------------------------------------------- levels
def small_model() -> SequenceModel:
    return SequenceModel(9, 2, 3, DeepRNN(3, 4, 3, "gru", link="highway", norm="layer"))


def of(configured: Callable[..., Config], *overrides: str) -> Config:
    return configured("model=gru", *overrides)


def test_levels_hold_every_parameter_once_from_the_embedding_to_the_head() -> None:
    model = small_model()
    levels = model.levels()
    assert len(levels) == 5  # embedding, three layers, head
    found = [id(parameter) for level in levels for parameter in level]
    assert sorted(found) == sorted(map(id, model.parameters()))
    assert levels[0] == [model.embedding.weight]
    assert {id(p) for p in levels[-1]} == {id(p) for p in model.head.parameters()}


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "rmsprop"])
def test_a_level_learns_at_its_share_of_the_rate_of_the_one_above(
    configured: Callable[..., Config], optimizer: str
) -> None:
    cfg = of(configured, f"optimizer={optimizer}", "lr=1.0", "finetune.layer_decay=0.5", "weight_decay=0.1")
    model = small_model()
    built = build_optimizer(model, cfg)
    rates = {id(p): group["lr"] for group in built.param_groups for p in group["params"]}
    assert [{rates[id(p)] for p in level} for level in model.levels()] == [{0.0625}, {0.125}, {0.25}, {0.5}, {1.0}]
    assert built.param_groups[0]["lr"] == 1.0  # the rate that is logged is the one that was asked for


def test_gradual_unfreezing_lets_one_more_level_go_at_a_time() -> None:
    model = small_model()
    unfreezing = Unfreezing(model.levels(), 2)
    learning = []
    for epoch in (0, 1, 2, 4, 7, 8, 99, 3):  # in any order: a resumed run begins anywhere
        unfreezing.begin(epoch)
        learning.append([all(p.requires_grad for p in level) for level in model.levels()].count(True))
    assert learning == [1, 1, 2, 3, 4, 5, 5, 2]
    assert all(p.requires_grad for p in model.levels()[-2])  # from the top


def test_frozen_levels_stay_as_they_are_while_the_others_learn(typed: Typed, tmp_path: Path, pretrained: Path) -> None:
    code, out, err = classify(typed, tmp_path, "epochs=1", "finetune.unfreeze_epochs=1", "diagnostics=gradient_flow")
    assert code == 0, err
    assert "finetune.unfreeze_epochs=1: 3 of 4 levels never learn in epochs=1" in out
    theirs, ours = (load_checkpoint(tmp_path / run / "best.ckpt")["model"] for run in ("lm", "classifier"))
    for name, value in ours.items():
        if name.startswith("rnn."):
            assert torch.equal(value, theirs[name]), name


@pytest.mark.parametrize(("epochs", "frozen"), [(1, 4), (2, 4), (3, 3), (8, 1), (9, 0), (99, 0)])
def test_levels_that_no_epoch_lets_go_are_counted(epochs: int, frozen: int) -> None:
    unfreezing = Unfreezing(small_model().levels(), 2)
    assert unfreezing.left_frozen(epochs) == frozen
    learned = set()
    for epoch in range(epochs):
        unfreezing.begin(epoch)
        learned |= {height for height, level in enumerate(unfreezing.levels) if level[0].requires_grad}
    assert len(unfreezing.levels) - len(learned) == frozen


def test_a_model_without_levels_is_refused_them(configured: Callable[..., Config]) -> None:
    cfg = of(configured, "finetune=ulmfit")
    with pytest.raises(RequestError, match="Linear has no levels"):
        levels_of(nn.Linear(2, 2), cfg)
    assert (
        len(
            levels_of(
                nn.Linear(2, 2),
                compose_config(cfg.to_dict() | {"finetune": {"layer_decay": 1.0, "unfreeze_epochs": None}}),
            )
        )
        == 1
    )
