"""conf/ and the classes of src/config.py say the same thing, and a wrong value is named in one line."""

import inspect
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from helpers import composed
from pydantic import BaseModel

from deep_rnn.cells import CELLS
from deep_rnn.init import INITS
from deep_rnn.links import LINKS
from deep_rnn.specification import options_of
from src.choices import CONF, ROOMS, known, module_of
from src.config import Config, LinkOptions, LoggerOptions, OptimizerConfig, SchedulerConfig, compose_config, read_config
from src.data.options import TokenizerOptions
from src.errors import RequestError
from src.tasks.stack import build_stack, spend_budget

Configured = Callable[..., Config]
CHOICES = sorted(
    path.relative_to(CONF) for path in CONF.glob("**/*.yaml") if path.parent != CONF and not path.name.startswith("_")
)
NEEDED = {
    "data/text_file": ["data.path=reviews.csv"],
    "data/plain_text": ["data.path=text.txt"],
    "experiment/char_lm": ["data.path=text.txt"],
    "model/custom": ["model.cell=deep_rnn.cells.gru.GRUCell"],
}


def names(folder: str) -> set[str]:
    return {path.stem for path in CONF.glob(f"{folder}/*.yaml") if not path.name.startswith("_")}


def sections(annotation: object) -> Iterator[type[BaseModel]]:
    """All pydantic classes that an annotation holds, and those of their fields."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for field in annotation.model_fields.values():
            yield from sections(field.annotation)
    for part in typing.get_args(annotation):
        yield from sections(part)


def tags(union: object) -> set[str]:
    """The values of ``name`` that a union tells apart."""
    classes = [found for found in sections(union) if "name" in found.model_fields]
    members = [found for found in classes if found in typing.get_args(typing.get_args(union)[0])]
    return {tag for member in members for tag in typing.get_args(member.model_fields["name"].annotation)}


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_every_file_of_conf_composes_and_validates(choice: Path, configured: Configured) -> None:
    group, name = choice.parent.as_posix(), choice.stem
    config = configured(f"{group}={name}", *NEEDED.get(f"{group}/{name}", []))
    section = config.to_dict()
    for part in group.split("/"):
        section = section.get(part, {})
    if "name" in section and section["name"] is not None:
        assert section["name"] == name


@pytest.mark.parametrize("path", sorted(CONF.glob("**/*.yaml")), ids=lambda path: path.relative_to(CONF).as_posix())
def test_every_file_of_conf_opens_with_a_comment_on_its_purpose(path: Path) -> None:
    first, second, *_ = path.read_text(encoding="utf-8").splitlines()
    said = second if first.startswith("# @package") else first
    assert said.startswith("# ") and len(said) > 20


@pytest.mark.parametrize("experiment", sorted(names("experiment")))
@pytest.mark.parametrize("debug", sorted(names("debug")))
def test_every_experiment_composes_with_every_debug_mode_and_the_mode_wins(
    experiment: str, debug: str, configured: Configured
) -> None:
    needed = NEEDED.get(f"experiment/{experiment}", [])
    config = configured(f"experiment={experiment}", f"debug={debug}", *needed).to_dict()
    mode = yaml.safe_load((CONF / "debug" / f"{debug}.yaml").read_text())
    for key, value in mode.items():
        assert config[key] == value if not isinstance(value, dict) else value.items() <= config[key].items()


def test_classes_hold_no_defaults_so_that_yaml_holds_them_all() -> None:
    for section in set(sections(Config)):
        assert all(field.is_required() for field in section.model_fields.values()), section


@pytest.mark.parametrize(
    ("folder", "known"),
    [
        ("link", tags(LinkOptions)),
        ("link", set(LINKS)),
        ("data/tokenizer", tags(TokenizerOptions)),
        ("optimizer", tags(OptimizerConfig)),
        ("scheduler", tags(SchedulerConfig)),
        ("logger", tags(LoggerOptions)),
        ("model", {*CELLS, "custom"}),
    ],
)
def test_each_choice_has_a_file_and_a_class(folder: str, known: set[str]) -> None:
    assert names(folder) == known


@pytest.mark.parametrize(("group", "name"), [(group, name) for group in ROOMS for name in known(group)])
def test_each_data_set_and_task_has_a_module_of_its_name_whose_options_are_those_of_its_file(
    group: str, name: str
) -> None:
    fields = module_of(group, name).Options.model_fields
    assert typing.get_args(fields["name"].annotation) == (name,)
    assert set(composed(f"{group}={name}")[group]) == set(fields)
    assert all(field.is_required() for field in fields.values())


@pytest.mark.parametrize("cell", sorted(CELLS))
def test_the_options_of_a_cell_s_file_are_those_of_its_class_with_its_defaults(cell: str) -> None:
    parameters = inspect.signature(CELLS[cell]).parameters
    assert composed(f"model={cell}").model.options == {
        name: parameters[name].default for name in options_of(CELLS[cell])
    }


@pytest.mark.parametrize(
    "choice", [path for path in CHOICES if path.parts[0] in ("model", "link", "regularise")], ids=str
)
def test_every_choice_of_a_stack_builds_and_runs(choice: Path, configured: Configured) -> None:
    group, name = choice.parts[0], choice.stem
    config = configured(f"{group}={name}", "width=4", *NEEDED.get(f"{group}/{name}", []))
    output, _ = build_stack(config, 3)(torch.randn(5, 2, 3))
    assert output.shape[:2] == (5, 2) and output.isfinite().all()


def test_a_budget_picks_the_width_and_keeps_it_in_the_config(configured: Configured) -> None:
    for depth in (1, 4):
        config = spend_budget(configured("model=gru", f"depth={depth}", "param_budget=50k"), 16)
        count = sum(parameter.numel() for parameter in build_stack(config, 16).parameters())
        assert count == pytest.approx(50_000, rel=0.01) and config.param_budget == 50_000
    with pytest.raises(RequestError, match="param_budget=3 is below"):
        spend_budget(configured("param_budget=3"), 16)


def test_the_keras_set_up_of_the_seed_experiments(configured: Configured) -> None:
    for cell in ("rnn", "lstm", "gru"):
        config = configured(f"experiment=seed_{cell}")
        assert (config.model.cell, config.model.init) == (cell, "keras") and "keras" in INITS
        assert (config.depth, config.width, config.task.embedding, config.task.head) == (2, 5, 32, "sigmoid")
        assert (config.batch_size, config.epochs, config.optimizer.name) == (32, 5, "adam")
        assert (config.lr, config.clip) == ((3e-3, 1.0) if cell == "rnn" else (1e-3, None))  # the plain net needs help
        assert (config.data.max_length, config.data.tokenizer.vocab_size) == (100, 10_000)
        assert config.optimizer.model_dump()["eps"] == 1e-7
    assert configured("experiment=seed_deep_lstm").width == [128, 64]


def test_a_run_folder_gives_the_config_back(tmp_path: Path, configured: Configured) -> None:
    config = configured("model=gru", "width=[8,4]", "amp=off", "optimizer.eps=1e-9", "link=highway")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.to_dict()))
    assert read_config(tmp_path) == config


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["depth=0"], "depth=0: should be greater than or equal to 1"),
        (["depth=true"], "depth=true: should be a valid integer"),
        (["depth=2.5"], "depth=2.5: should be a valid integer"),
        (["width=[8,8,8]"], "width=[8,8,8] names 3 layers, but depth=2"),
        (["width=[8,0]"], "width[1]=0: should be greater than or equal to 1"),
        (["width=wide"], "width=wide: should be a valid integer or a valid list"),
        (["model.cell=[gru,lstm,gru]"], "model.cell=[gru,lstm,gru] names 3 layers, but depth=2"),
        (["lr=-1"], "lr=-1: should be greater than 0"),
        (["lr=nan"], "lr=nan: should be a finite number"),
        (["dropout=1.5"], "dropout=1.5: should be less than 1"),
        (["dropout=null"], "dropout=null: should be a valid number or a valid list"),
        (["amp=fp15"], "amp=fp15: should be 'off', 'bf16' or 'fp16'"),
        (["device=gpu"], "device=gpu: should be auto, cpu, mps, cuda or cuda:N"),
        (["clip=0"], "clip=0: should be greater than 0"),
        (["seed=-1"], "seed=-1: should be greater than or equal to 0"),
        (["dropout=[0.1]"], "dropout=[0.1] names 1 layers, but depth=2"),
        (
            ["trainer.monitor=val/loss"],
            "trainer: monitor=val/loss is better when it is smaller: set trainer.mode=min too",
        ),
        (["data=plain_text", "data.path=''"], "data.path=: should have at least 1 character"),
        (["param_budget=lots"], "param_budget=lots: should be a valid integer"),
        (["bidirectional=both"], "bidirectional=both: should be a valid boolean or 'stacks'"),
        (["+widht=3"], "widht: no such key (did you mean width?)"),
        (["+trainer.patince=3"], "trainer.patince: no such key (did you mean patience?)"),
        (["optimizer.name=admaw"], "optimizer.name=admaw: unknown name (did you mean adamw?)"),
        (["optimizer.betas=[0.9]"], "optimizer.betas=[0.9]: should have at least 2 items after validation, not 1"),
        (["optimizer=sgd", "optimizer.nesterov=true"], "optimizer: nesterov=true needs momentum above 0"),
        (["~data.keep"], "data.keep is missing"),
        (["data=text_file"], "data.path= is missing: this choice has no default for it"),
        (["lr=${learning_rate}"], "lr: Interpolation key 'learning_rate' not found"),
    ],
)
def test_a_wrong_value_is_named_with_what_was_expected(overrides: list[str], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        compose_config(composed(*overrides))
    assert str(caught.value) == message


def test_amp_off_is_off_however_yaml_reads_it(configured: Configured) -> None:
    assert configured("amp=off").amp == configured("amp=false").amp == configured("amp='off'").amp == "off"


def test_a_folder_without_a_run_is_refused_with_the_nearest_one(tmp_path: Path) -> None:
    (tmp_path / "gru-3").mkdir()
    (tmp_path / "gru-3" / "config.yaml").write_text("depth: [1\n")
    with pytest.raises(RequestError, match=r"run=.*gru-4: no such folder \(did you mean gru-3\?\)$"):
        read_config(tmp_path / "gru-4")
    with pytest.raises(RequestError, match=r"config.yaml is damaged, or another version wrote it: .*line 2"):
        read_config(tmp_path / "gru-3")
