"""The command line without a training: what is taken as typed, what is refused, with which line and exit code."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from helpers import composed
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

import src.train
from src import cli
from src.arguments import VERBATIM, compose_data, folder_name, prepare, read_arguments, take_verbatim
from src.config import Config
from src.errors import RequestError, RunError

Typed = Callable[..., tuple[int, str, str]]  # exit code, standard output, standard error


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


WRONG = [
    ("model=gruu", "model=gruu: no such model (did you mean gru?)"),
    ("link=highwy", "link=highwy: no such link (did you mean highway?)"),
    ("optimizer=admaw", "optimizer=admaw: no such optimizer (did you mean adamw?)"),
    ("data/tokenizer=bpee", "data/tokenizer=bpee: no such data/tokenizer (did you mean bpe?)"),
    ("experiment=seed_gruu", "experiment=seed_gruu: no such experiment (did you mean seed_gru?)"),
    ("modle=gru", "modle=gru: no such key (did you mean model?)"),
    ("widht=3", "widht=3: no such key (did you mean width?)"),
    ("trainer.patince=3", "trainer.patince=3: no such key (did you mean patience?)"),
    ("model.options.reset=1", "model.options.reset=1: no such key; known: layer_norm, shortcut, transition_depth"),
    ("depth=0", "depth=0: should be greater than or equal to 1"),
    ("depth=1,2", "Ambiguous value for argument 'depth=1,2'"),
    ("width=[1,2,3]", "width=[1,2,3] names 3 layers, but depth=2"),
    ("lr=-1", "lr=-1: should be greater than 0"),
    ("dropout=1.5", "dropout=1.5: should be less than 1"),
    ("data=text_file", "data.path= is missing"),
    ("lr=It's", "lr=It's: Hydra cannot read this; quote the value for it"),
    ("--bogus", "unrecognized arguments: --bogus"),
    ("data.length=a\nb\x1b[31m\u200b", r"data.length=a\nb\x1b[31m\u200b: Hydra cannot read this"),
    ("model=3", "model=3: no such model; known: "),
    ("+debug=-1e5", "debug=-1e5: no such debug; known: anomaly"),
    ("hydra.mode=MULTIRUN", "hydra.mode=MULTIRUN: -m is how many runs are asked for"),
    ("diagnostics=[memory,prob]", "diagnostics=prob: no such diagnostics (did you mean probe?)"),
    ("scheduler=[null]", "scheduler=null: no such scheduler; known: constant, cosine, one_cycle, plateau, warmup"),
    ("optimizer=null", "optimizer=null: no such optimizer; known: adam, adamw, rmsprop, sgd"),
    ("launcher=[basic,4]", "launcher=4: no such launcher; known: "),
    ("--resolve", "error: The --resolve flag can only be used in conjunction with --cfg"),
    ("trainer.mode=${nope}", "Interpolation key 'nope' not found"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG, ids=[wrong for wrong, _ in WRONG])
def test_a_wrong_request_is_one_line_and_exit_code_2_and_touches_nothing(
    wrong: str, message: str, typed: Typed, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    for name in ("config.yaml", "metrics.jsonl", "last.ckpt", "DONE"):
        (old / name).write_text(f"precious {name}")
    before = snapshot(tmp_path)
    for folder in ("old", "new"):
        code, _, err = typed("train", f"hydra.run.dir={folder}", wrong)
        assert code == 2
        assert len(err.splitlines()) == 1 and err.startswith("error: ") and message in err
    assert snapshot(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_an_interpolation_of_nothing_is_refused_in_plain_words_also_where_the_folder_is_named_by_it(
    typed: Typed,
) -> None:
    code, _, err = typed("train", "trainer.mode=${nope}")
    assert (code, err) == (2, "error: Interpolation key 'nope' not found\n")


def test_a_run_folder_that_cannot_be_made_is_a_wrong_request(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    code, _, err = typed("train", "hydra.run.dir=file/run", "depth=0")
    assert code == 2 and len(err.splitlines()) == 1 and "file/run" in err


def test_hydra_full_error_shows_the_traceback_too(typed: Typed) -> None:
    code, _, err = typed("train", "depth=0", full_error="1")
    assert code == 2 and "Traceback" in err and err.splitlines()[-1].startswith("error: depth=0")


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, 0), (RequestError("no"), 2), (RunError("not finite"), 1), (KeyboardInterrupt(), 130), (TypeError("x"), 1)],
)
def test_exit_codes_of_a_job(
    error: BaseException | None, code: int, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(cfg: Config, folder: Path) -> float:
        if error is not None:
            raise error
        return 0.5

    monkeypatch.setattr(src.train, "train", train)
    left, _, err = typed("train", "depth=1")
    assert left == code
    assert len(err.splitlines()) == 1 if isinstance(error, RequestError | RunError) else True
    assert ("Traceback" in err) == isinstance(error, TypeError)


def test_sigterm_before_training_exits_143(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(src.train, "train", lambda cfg, folder: os.kill(os.getpid(), signal.SIGTERM))
    assert typed("train", "depth=1")[0] == 143


def test_a_door_hears_sigint_also_where_a_shell_has_put_it_into_the_background(
    typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as `&` in a script hands it on
    try:
        monkeypatch.setattr(src.train, "train", lambda cfg, folder: os.kill(os.getpid(), signal.SIGINT))
        assert typed("train", "depth=1")[0] == 130
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_refused_run_of_a_sweep_is_told_at_once_and_stops_no_other(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def train(cfg: Config, folder: Path) -> float:
        (folder / "DONE").touch()
        print(f"trained depth {cfg.depth}", file=sys.stderr)
        return 0.5

    monkeypatch.setattr(src.train, "train", train)
    code, _, err = typed("train", "-m", "model=gru,lstm", "depth=0,1", "sweep.name=mine")
    lines = err.splitlines()
    assert code == 2
    assert lines[:5] == [
        *(f"error: model={model} depth=0: depth=0: should be greater than or equal to 1" for model in ("gru", "lstm")),
        "4 runs: 2 refused, 2 new",
        *(["trained depth 1"] * 2),
    ]
    assert lines[-1].startswith("error: 2 of 4 runs failed (model-gru_depth-0-")
    folders = {path.name.rpartition("-")[0] for path in (tmp_path / "outputs/sweeps/mine").glob("*-*/")}
    assert folders == {f"model-{model}_depth-{depth}" for model in ("gru", "lstm") for depth in (0, 1)}


def test_a_sweep_is_named_after_what_was_typed_so_that_it_lands_in_the_same_place(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[tuple[str | None, str]] = []
    monkeypatch.setattr(src.train, "train", lambda cfg, folder: seen.append((cfg.sweep.name, folder.name)))
    for launcher in ([], ["launcher=basic", "sweep.fail_fast=true", "logger=none"]):
        assert typed("train", "-m", "depth=1,2", "lr=1e-3", *launcher)[0] == 1  # nothing says that these are DONE
    (sweep,) = (tmp_path / "outputs/sweeps").iterdir()
    assert seen[:2] == seen[-2:]
    assert [(name, run[:-9]) for name, run in seen[:2]] == [(sweep.name, f"depth-{n}_lr-0.001") for n in (1, 2)]
    assert set(sweep.name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-") and "depth-1-2" in sweep.name


def test_what_hydra_gives_still_works(typed: Typed) -> None:
    code, out, _ = typed("train", "--help")
    assert code == 0 and "optimizer: adam, adamw, rmsprop, sgd" in out
    code, out, _ = typed("train", "model=gru", "depth=3", "--cfg", "job")
    assert code == 0 and yaml.safe_load(out)["model"]["cell"] == "gru"


free_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(free_text)
@settings(max_examples=300, deadline=None)
@example('It\'s great, really! (a=b) "quoted" ${oc.env:HOME} \\${x} \\')
@example("outputs/depth=3,model=gru")
@example("\\'\\\\'")
@example("null")
def test_free_text_and_paths_come_through_as_typed_also_in_a_sweep(text: str) -> None:
    parser = OverridesParser.create()
    typed = parser.parse_overrides(take_verbatim([f"resume={text}", "depth=1,2"]))
    jobs = BasicSweeper.split_arguments(typed, None)[0]
    assert len(jobs) == 2
    for override in [typed[0], *(parser.parse_override(job[0]) for job in jobs)]:
        cfg = OmegaConf.create({"resume": None})
        OmegaConf.update(cfg, "resume", override.value())  # what Hydra does with it
        assert cfg.resume == text


def test_all_verbatim_keys_are_quoted_and_no_other() -> None:
    typed = [f"{key}=a,b" for key in VERBATIM] + ["+text=a,b"]
    assert take_verbatim(typed) == [f"{argument.split('=')[0]}='a,b'" for argument in typed]
    assert take_verbatim(["lr=1,2", "context=a,b", "-m"]) == ["lr=1,2", "context=a,b", "-m"]


def test_folder_names_hold_only_plain_characters_and_keep_different_overrides_apart() -> None:
    assert folder_name("depth-1_lr-0.001") == "depth-1_lr-0.001"
    assert folder_name("") == "default"
    different = ["width-[8,4]", "width-8-4", "width-{8,4}", "x" * 200, "x" * 201, "über", "a/b", "a b", "../.."]
    names = {folder_name(text) for text in different}
    assert len(names) == len(different)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789._-") and name[0] != "." for name in names)


def test_resume_takes_only_what_may_change(tmp_path: Path, configured: Callable[..., Config]) -> None:
    old = tmp_path / "a, b='c'"
    old.mkdir()
    (old / "config.yaml").write_text(yaml.safe_dump(configured("depth=4", "lr=0.5").to_dict()))
    prepared = prepare([f"resume={old}", "epochs=9", "trainer.progress=false", "--cfg", "job"])
    overrides = prepared[: prepared.index("--cfg")]
    assert composed(*overrides, return_hydra_config=True).hydra.run.dir == str(old)
    config = cli.config_of(composed(*overrides), overrides[:3])
    assert (config.depth, config.lr, config.epochs, config.trainer.progress) == (4, 0.5, 9, False)
    assert config.resume == str(old)
    with pytest.raises(RequestError, match=r"^lr=0.1: a resumed run keeps its settings; only these may change: epochs"):
        prepare([f"resume={old}", "lr=0.1"])
    with pytest.raises(RequestError, match="cannot be swept"):
        prepare(["-m", f"resume={old}", "epochs=1,2"])
    with pytest.raises(RequestError, match="holds no run"):
        prepare([f"resume={tmp_path}"])


def test_the_other_doors_name_wrong_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    def read(*arguments: str) -> tuple[dict[str, str], list[str]]:
        return read_arguments(list(arguments), ["run"], ["split"], "how to use it", "data")

    assert read("run=a=b, 'c'", "split=val", "data=text_file", "data.path=x,y") == (
        {"run": "a=b, 'c'", "split": "val"},
        ["data=text_file", "data.path=x,y"],
    )
    for arguments, message in [
        (["rnu=x"], r"rnu=x: no such key \(did you mean run\?\)"),
        (["run=x", "val"], "val: expected key=value, with run, split"),
        (["split=val"], "run= is missing"),
        (["run="], "run= is missing"),
    ]:
        with pytest.raises(RequestError, match=message):
            read(*arguments)
    with pytest.raises(SystemExit) as left:
        read("--help")
    assert left.value.code == 0 and "how to use it" in capsys.readouterr().out


def test_a_run_s_own_data_changes_only_in_the_keys_typed(configured: Callable[..., Config]) -> None:
    own = configured("data=text_file", "data.path=old.csv", "data.text_column=review").data
    changed = compose_data(own, ["data.path=new, file.csv"])
    assert changed == own.model_copy(update={"path": "new, file.csv"})
    anew = compose_data(own, ["data=text_file", "data.path=new.csv"])
    assert anew.model_dump()["text_column"] == "text"
