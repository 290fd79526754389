"""Every command that the pages show, and that measures a result, exists: its program, its file, its options."""

import importlib.util
import re
import runpy
import shlex
import tomllib
from collections.abc import Callable, Iterator

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException
from pages import PAGES, RESULTS, ROOT, blocks

from src.arguments import compose_data, prepare, read_arguments
from src.choices import CONF
from src.config import Config
from src.errors import RequestError
from src.generate import Request

LINES = {
    **{f"{block}+{n}": line for block in blocks("sh") for n, line in enumerate(block.text.splitlines()) if line},
    **{
        f"results/{name}.json {n}": entry["command"]
        for name, found in RESULTS.items()
        for n, entry in enumerate(found["entries"])
    },
}
LINES |= {  # in the middle of a sentence, unless something is left out of it
    f"{page.name}: {code}": code
    for page in PAGES
    for code in re.findall(r"`((?:python3?|pip|torchrun|wandb) [^`\n…]+)`", page.read_text(encoding="utf-8"))
}
OWN = "data=ones"  # that page's own data set: tests/tasks/test_recipe.py follows it to the letter
COMMANDS = {command: where for where, command in LINES.items() if OWN not in command}  # each once
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
DOORS = {
    "src.evaluate": (["split", "device"], "data"),
    "src.predict": (["text", "device"], None),
    "src.generate": (["prompt", "device", *Request.model_fields], None),
}


def simple_commands(line: str) -> Iterator[list[str]]:
    """The programs of a line of shell with their arguments, without what goes in and comes out."""
    words = shlex.shlex(line, posix=True, punctuation_chars="&;<>()")
    words.whitespace_split, words.commenters = True, "#"
    command: list[str] = []
    for word in [*words, ";"]:
        if word in ("&&", ";", "&", "||", "}", "{"):
            if command:
                yield command
            command = []
        else:
            command.append(word)


def arguments_of(command: list[str]) -> list[str]:
    """The arguments, without a file that is read."""
    return command[: command.index("<")] if "<" in command else command


def check_training(arguments: list[str], configured: Callable[..., Config]) -> None:
    """Compose and validate, with the first value of what a sweep goes through; every choice of a group has a file."""
    arguments = [word for word in arguments if not word.startswith("resume=")]  # of a run that is not there
    first = []
    for text in prepare(arguments):
        if text in ("-m", "--cfg", "job"):
            continue
        override = OverridesParser.create().parse_override(text)
        group = override.key_or_group
        if override.is_sweep_override():
            values = [str(value) for value in override.sweep_string_iterator()]
            first.append(f"{group}={values[0]}")
            if (CONF / group).is_dir():
                assert [value for value in values if not (CONF / group / f"{value}.yaml").is_file()] == []
        else:
            first.append(text)
    configured(*first)


def check_python(words: list[str], configured: Callable[..., Config]) -> None:
    """``python -m module …`` or ``python file …``."""
    if words[0] != "-m":
        text = (ROOT / words[0]).read_text(encoding="utf-8")
        assert [word for word in words[1:] if word.startswith("--") and f'"{word}"' not in text] == []
        if words[0].endswith("benchmark.py") and "--only" in words:
            sections = runpy.run_path(str(ROOT / words[0]))["SECTIONS"]
            assert set(words[words.index("--only") + 1].split(",")) <= set(sections)
        return
    module, rest = words[1], words[2:]
    assert importlib.util.find_spec(module) is not None, module
    if module == "src.train":
        check_training(rest, configured)
    elif module in DOORS:
        optional, group = DOORS[module]
        _, overrides = read_arguments(rest, ["run"], optional, "", group)
        of_made_data = any(override.startswith("data.length=") for override in overrides)
        compose_data(configured(*["data=adding"] * of_made_data).data, overrides)
    elif module == "deep_rnn.build":
        assert {word for word in rest if word.startswith("--")} <= {"--processor"}
    elif module == "src.sweeps":
        assert len(rest) == 1
    else:
        assert module in ("pip", "pytest", "sphinx", "venv", "ruff", "mypy")


def check(command: list[str], configured: Callable[..., Config]) -> None:
    """A program with its arguments."""
    program, words = command[0].removeprefix(".venv/bin/"), arguments_of(command[1:])
    if program in ("python", "python3"):
        check_python(words, configured)
    elif program == "torchrun":
        check_python(words[words.index("-m") :], configured)
    elif program == "pip":
        extras = [name for word in words for group in re.findall(r"^\.\[(.*)\]$", word) for name in group.split(",")]
        assert words[0] == "install" and set(extras) <= set(EXTRAS)
        assert "-c" not in words or (ROOT / words[words.index("-c") + 1]).is_file()
    elif program == "wandb":
        assert words[0] in ("leet", "sync", "sweep")
        assert words[0] != "sweep" or (ROOT / words[1]).is_file()
    else:
        assert program in ("git", "cd", "bash", ".", "[", "apt-get", "||"), f"{program}: not known to this test"


@pytest.mark.parametrize("line", COMMANDS, ids=COMMANDS.get)
def test_a_command_that_is_shown_can_be_typed(line: str, configured: Callable[..., Config]) -> None:
    for command in simple_commands(line):
        check(command, configured)


@pytest.mark.parametrize(
    "line",
    [
        "python -m src.train model=gruu",
        "python -m src.train -m experiment=seed_gru,seed_nothing",
        "python -m src.train lr=-1",
        "python -m src.evaluate run=DIR splitt=val",
        "python scripts/nothing.py",
        "python scripts/depth_figure.py --sedes 3",
        "python scripts/benchmark.py --only nothing",
        "pip install -e '.[nothing]'",
        "wandb sweep scripts/nothing.yaml",
        "frobnicate",
    ],
)
def test_a_command_that_is_wrong_would_be_found(line: str, configured: Callable[..., Config]) -> None:
    with pytest.raises((AssertionError, OSError, RequestError, ConfigCompositionException)):
        for command in simple_commands(line):
            check(command, configured)
