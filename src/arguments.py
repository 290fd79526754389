"""What is typed after ``python -m src.…``, before and around Hydra: free text and paths, resuming, folder names."""

import hashlib
import re
from collections.abc import Iterable
from typing import NoReturn

from hydra import compose, initialize_config_dir
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import OmegaConf

from src import processes
from src.choices import CONF
from src.config import compose_config, read_config, with_keys
from src.data.options import DataOptions
from src.errors import RequestError, did_you_mean

VERBATIM = ("text", "prompt", "run", "resume", "init_from", "data.path", "data.delimiter", "data.label_separator")
"""Keys whose values Hydra's grammar must not read: free text and paths."""
RESUMABLE = (
    "epochs",
    "max_minutes",
    "max_steps",
    "device",
    "threads",
    "trainer.progress",
    "trainer.summary",
    "trainer.timeout_minutes",
    "sweep.prune",
)
"""What may change when a run goes on."""
NOT_IDENTITY = (
    *("resume", "device", "threads", "logger", "sweep", "data.cache_dir"),
    *("trainer.progress", "trainer.summary", "trainer.checkpoint_minutes", "trainer.timeout_minutes"),
)
"""Keys that say where and how a run is made and make no other run of it."""
UNNAMED = (*NOT_IDENTITY, "launcher", "hydra", "data.path")
"""Keys that a sweep and its runs are not named by."""


def take_verbatim(arguments: Iterable[str]) -> list[str]:
    """Quote what Hydra is to hand on exactly as typed: the values of the ``VERBATIM`` keys, and numbers for choices."""
    verbatim, groups = ("|".join(map(re.escape, keys)) for keys in (VERBATIM, _groups()))
    quoted = []
    for argument in arguments:
        if match := re.fullmatch(rf"(\+{{0,2}}(?:{verbatim}))=(.*)", argument, re.DOTALL):
            argument = f"{match[1]}={_quoted(match[2])}"
        elif re.match(rf"\+{{0,2}}(?:{groups})=", argument):
            argument = re.sub(_NO_NAME, lambda found: _quoted(found[0]), argument)
        quoted.append(argument)
    return quoted


_NO_NAME = r"(?i)(?<=[=\[,])(?:[-+]?(?:[\d.][^\s,\]]*|nan|inf)|true|false|null)(?=[,\]]|$)"
"""What Hydra reads as a number, a truth or nothing, alone or in a list; as a choice it is a name, if a wrong one."""


def _groups() -> list[str]:
    return [path.relative_to(CONF).as_posix() for path in CONF.rglob("*") if path.is_dir()]


def _quoted(value: str) -> str:
    value = re.sub(r"(\\*)\$\{", lambda match: match[1] * 2 + r"\${", value)  # no interpolation either
    return QuotedString(text=value, quote=Quote.single).with_quotes()


def folder_name(text: str, longest: int = 120) -> str:
    """Make a folder's name of letters, digits, ``.``, ``_``, ``-``; a hash tells apart what had to change."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:longest] or "default"
    return name if name == text or not text else f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


def names_run(override: str) -> bool:
    """Whether a run is another one for this override (``depth=2``), and not just made elsewhere (``launcher=ray``)."""
    key = override.partition("=")[0].lstrip("+~")
    return not any(key == name or key.startswith((f"{name}.", f"{name}/")) for name in UNNAMED)


OmegaConf.register_new_resolver("folder_name", folder_name, replace=True)


def value_of(key: str, arguments: Iterable[str]) -> str | None:
    """The last ``key=value`` among the arguments as typed, or none."""
    values = [argument.partition("=")[2] for argument in arguments if argument.partition("=")[0].lstrip("+") == key]
    return values[-1] if values else None


def prepare(arguments: list[str]) -> list[str]:
    """Check what can be checked before Hydra makes a folder, and return the arguments that Hydra is to see.

    Raises:
        RequestError: unknown flags, a ``resume`` that is no run or comes with settings that cannot change, a sweep of
            runs in several processes.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]  # one line instead of the usage text
    options = parser.parse_args(arguments)
    for override in options.overrides:
        if override.startswith("hydra.mode="):
            raise RequestError(f"{override}: -m is how many runs are asked for")
    if options.multirun and processes.size() > 1:
        raise RequestError(
            "-m starts many runs and torchrun many processes of one: leave out either (several runs at a time is what"
            " launcher= is for)"
        )
    prepared = take_verbatim(arguments)
    resume = value_of("resume", options.overrides)
    if resume is not None:
        if options.multirun:
            raise RequestError("resume= goes on with one run and cannot be swept: leave out -m")
        extra = f"hydra.run.dir={_quoted(check_resume(resume, options.overrides))}"
        return _with(extra, prepared, arguments.index(options.overrides[-1]))
    alone = [] if options.multirun else [o for o in options.overrides if o.startswith(("sweep=", "sweep."))]
    if alone:
        raise RequestError(f"{alone[0]}: this is about many runs: add -m")
    named = any(value_of(key, options.overrides) is not None for key in ("sweep", "sweep.name", "hydra.sweep.dir"))
    if options.multirun and not named:
        typed = "_".join(sorted(o.replace("=", "-", 1) for o in options.overrides if names_run(o)))
        extra = f"sweep.name={folder_name(typed)}"  # no date: the same command lands in the same place
        return _with(extra, prepared, arguments.index(options.overrides[-1]) if options.overrides else len(prepared))
    return prepared


def _with(extra: str, arguments: list[str], after: int) -> list[str]:
    return [*arguments[: after + 1], extra, *arguments[after + 1 :]]  # argparse wants the overrides side by side


def _refuse(message: str) -> NoReturn:
    raise RequestError(f"{message} (python -m src.train --help lists what there is)")


def check_resume(resume: str, overrides: Iterable[str]) -> str:
    """Return the folder to go on in, after checking that it holds a run and that nothing else is asked to change."""
    read_config(resume, "resume")
    for override in overrides:
        key = override.partition("=")[0].lstrip("+~")
        if key not in (*RESUMABLE, "resume"):
            known = ", ".join(RESUMABLE)
            raise RequestError(f"{override}: a resumed run keeps its settings; only these may change: {known}")
    return resume


def typed_keys(overrides: Iterable[str]) -> list[str]:
    """The keys that overrides set."""
    return [override.partition("=")[0].lstrip("+") for override in overrides]


def read_arguments(
    arguments: list[str], required: Iterable[str], optional: Iterable[str], usage: str, group: str | None = None
) -> tuple[dict[str, str], list[str]]:
    """Read ``key=value`` arguments of a door that Hydra does not open, every value as typed.

    Returns:
        What was given of ``required`` and ``optional``, and the overrides of the config ``group``.

    Raises:
        RequestError: an argument that is none, an unknown key, or a required one that is missing.
    """
    if {"-h", "--help"} & set(arguments):
        print(usage.strip())
        raise SystemExit(0)
    known = [*required, *optional]
    given: dict[str, str] = {}
    overrides: list[str] = []
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            raise RequestError(f"{argument}: expected key=value, with {', '.join(known)}")
        if group and re.split(r"[./]", key.lstrip("+"))[0] == group:
            overrides.append(argument)
        elif key in given:
            raise RequestError(f"{argument}: {key}= is given twice")
        elif key in known:
            given[key] = value
        else:
            raise RequestError(f"{argument}: no such key{did_you_mean(key, [*known, *([group] if group else [])])}")
    for key in required:
        if not given.get(key):
            raise RequestError(f"{key}= is missing; --help shows what to give")
    return given, overrides


def names_other_data(overrides: list[str]) -> bool:
    """Whether overrides ask for other content than a run's own, and not just for another way to read that."""
    return any(value_of(key, overrides) is not None for key in ("data", "data.path", "data.val_path", "data.test_path"))


def compose_data(own: DataOptions, overrides: list[str]) -> DataOptions:
    """The data that ``data=… data.key=…`` ask for; without ``data=`` a run's own, with the typed keys changed.

    Raises:
        RequestError: a choice such as ``data/tokenizer`` for a run that has made it.
    """
    anew = value_of("data", overrides) is not None
    if not anew and (chosen := [key for key in typed_keys(overrides) if "/" in key]):
        raise RequestError(f"{chosen[0]}: the run has made this choice and keeps it; leave that out")
    path = getattr(own, "path", None)
    kept = [f"data={own.name}"] + ([f"data.path={path}"] if path and value_of("data.path", overrides) is None else [])
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", take_verbatim(overrides if anew else [*kept, *overrides]))
    composed = compose_config(cfg)
    if anew:
        return composed.data
    fields = own.model_dump()
    if value_of("data.path", overrides) is not None:  # another file: what was held beside the run's own does not go on
        fields |= {key: None for key in ("val_path", "test_path") if key in fields}
    run = compose_config(composed.to_dict() | {"data": fields})
    return with_keys(run, composed, typed_keys(overrides)).data
