"""Command lines drawn from conf/'s own groups and keys, and from broken values."""

import random
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from fuzzing.case import Case, Prepare
from fuzzing.layout import take_runs
from fuzzing.templates import LANGUAGE, LIMITED, NUMBERS, RUNS, TEXT
from fuzzing.values import broken, misspelt

CONF = Path(__file__).resolve().parents[2] / "conf"
SLOW = {
    "data": ("imdb", "imdb_full", "mnist", "digits"),
    "launcher": ("ray", "submitit", "submitit_local"),
    "experiment": (),
    "sweep": ("cells", "depth", "links", "lr_range", "memory"),
}
"""Choices that take a download, an archive or many runs; drawn with something wrong beside them only."""


@cache
def choices() -> dict[str, list[str]]:
    """The groups of conf/ and what they offer; ``data/tokenizer`` is named so."""
    found: dict[str, list[str]] = {}
    for path in sorted(CONF.rglob("*.yaml")):
        group = path.parent.relative_to(CONF).as_posix()
        if group != "." and not group.startswith("hydra") and not path.stem.startswith("_"):
            found.setdefault(group, []).append(path.stem)
    return found


@cache
def keys() -> dict[str, Any]:
    """Every key that a file of conf/ sets, dotted, and what it is set to."""
    found: dict[str, Any] = {}
    for path in sorted(CONF.rglob("*.yaml")):
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        whole = path.parent == CONF or "@package _global_" in path.read_text(encoding="utf-8").split("\n")[0]
        prefix = "" if whole else ".".join(path.parent.relative_to(CONF).parts) + "."
        found |= {key: value for key, value in _flat(content, prefix) if not key.startswith(("hydra", "defaults"))}
    return found


def _flat(content: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in content.items():
        found += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) and value else [(f"{prefix}{key}", value)]
    return found


def command_line(seed: int, number: int) -> Case:
    """One request."""
    draw = random.Random(f"{seed}/command-lines/{number}")
    make = draw.choices([_train, _multirun, _resume, _other_door, _sweeps, _hydras_own], [50, 12, 8, 20, 4, 6])[0]
    door, arguments, names, own = make(draw)
    if draw.random() < 0.15:
        arguments.insert(draw.randrange(len(arguments) + 1), _slip(draw))
    if draw.random() < 0.05:
        arguments.append(draw.choice(arguments or ["x"]))
    stdin = draw.choice([b"", b"a film\n", b"the plot was bad\n\n\xff\n", "日本\n".encode()])
    prepare: Prepare = take_runs(*names)
    typed = [argument for argument in arguments if "\0" not in argument]
    return Case("command-lines", number, make.__name__.strip("_"), door, typed, stdin, prepare, own)


Drawn = tuple[str, list[str], tuple[str, ...], tuple[str, ...]]


def _train(draw: random.Random) -> Drawn:
    base = [
        *LIMITED,
        *draw.choice([TEXT, TEXT, LANGUAGE, NUMBERS, [*NUMBERS[1:], "data=adding"], ["data=copy", *NUMBERS[1:]]]),
    ]
    return "train", [*base, *(_change(draw) for _ in range(draw.choice([1, 1, 2, 3])))], (), ()


def _multirun(draw: random.Random) -> Drawn:
    lists = [
        "depth=1,2",
        "seed=0,1",
        "model=lstm,gru",
        "width=2,4",
        "lr=1e-3,x",
        "depth=1,-1",
        "model=gru,gruu",
        "seed=range(2)",
        "link=none,residual",
        "data.length=4,5",
        "width=[2],[4]",
        "depth=1,1",
        "dropout=0,2",
        "lr=interval(0,1)",
        "lr=1e-3,nan",
    ]
    more = draw.choice([[], [], ["debug=fast"], ["sweep=optuna", "sweep.search.trials=2"], ["sweep.fail_fast=true"]])
    changes = [_change(draw) for _ in range(draw.choice([0, 0, 1, 2]))]
    base = [*LIMITED, *draw.choice([TEXT, NUMBERS])]
    return "train", [draw.choice(["-m", "--multirun"]), *base, draw.choice(lists), *more, *changes], (), ()


def _resume(draw: random.Random) -> Drawn:
    name = draw.choice(list(RUNS))
    more = draw.choice(
        [[], ["max_steps=4", "epochs=2"], ["epochs=3"], [f"epochs={broken(draw)}"], ["lr=1"], [_change(draw)]]
    )
    flag = draw.choice([[], [], [], ["-m"]])
    key = draw.choice(["resume", "resume", "resume", "+resume", "++resume", "~resume", "resum"])
    return (
        "train",
        [*flag, f"{key}={draw.choice([f'runs/{name}', f'runs/{name}', broken(draw)])}", *more],
        (name,),
        (f"runs/{name}",),
    )


def _other_door(draw: random.Random) -> Drawn:
    door, name = draw.choice(["evaluate", "predict", "generate"]), draw.choice(list(RUNS))
    own = {
        "evaluate": [
            "split=val",
            "split=train",
            "split=test",
            "data.path=other.jsonl",
            "data.path=reviews.csv",
            "device=cpu",
        ],
        "predict": ["text=a film", "text=", "text= ", "text=日本, 'so' = ${lr}", "device=cpu"],
        "generate": [
            "prompt=the",
            "prompt=",
            "length=3",
            "temperature=0",
            "top_k=2",
            "top_p=0.5",
            "seed=1",
            "prompt=\u0000",
        ],
    }[door]
    wrong = [f"{option.partition('=')[0]}={broken(draw)}" for option in own]
    wrong += (
        [f"data.{key.rpartition('.')[2]}={broken(draw)}" for key in draw.sample(sorted(keys()), 2)]
        if door == "evaluate"
        else []
    )
    picked = draw.sample(own, draw.choice([0, 1, 2])) + draw.sample(wrong, draw.choice([0, 1, 1]))
    run = draw.choice(
        [f"run=runs/{name}"] * 6 + [f"run={broken(draw)}", "run=runs", f"run=runs/{misspelt(draw, name)}"]
    )
    return door, [run, *picked, *(["length=3"] if door == "generate" else [])], (name,), ()


def _sweeps(draw: random.Random) -> Drawn:
    folder = draw.choice(["runs", "runs", "runs/counter", "a folder", broken(draw)])
    more = draw.choice(
        [[], ["val/loss"], ["--mode", "max"], [broken(draw)], ["val/loss", "--mode", broken(draw)], ["--modes"]]
    )
    return "sweeps", [folder, *more], ("classifier", "counter"), ()


def _hydras_own(draw: random.Random) -> Drawn:
    flags = [
        "--help",
        "-h",
        "--version",
        "--info",
        "--info=plugins",
        "--hydra-help",
        "--cfg=job",
        "--cfg",
        "--cfg=all",
        "--resolve",
        "--package",
        "--config-name=nothing",
        "--config-path=/",
        "--config-dir=a folder",
        "-cd",
        "--shell-completion",
        "-sc=x",
        "--run",
        "--experimental-rerun=x",
        "-c=job",
        "-p=model",
        "--multirun",
        "-x",
        "--config-dir=missing",
        "--config-name",
    ]
    overrides = [
        "hydra.run.dir=a folder",
        "hydra.run.dir=empty.csv",
        "hydra.run.dir=runs/counter",
        "hydra.verbose=true",
        "hydra=x",
    ]
    overrides += [
        "hydra.job.chdir=true",
        "hydra.sweep.dir=empty.csv",
        "hydra/launcher=nothing",
        "hydra.job.name=x",
        "hydra.run.dir=",
    ]
    overrides += [
        "hydra.output_subdir=.hydra",
        "hydra.searchpath=[x]",
        "hydra/sweeper=basic",
        "hydra.mode=MULTIRUN",
        "hydra.run.dir=/dev/null/x",
    ]
    picked = draw.choice([[draw.choice(flags)], [draw.choice(overrides)], [draw.choice(flags), draw.choice(overrides)]])
    return "train", [*picked, *LIMITED, *NUMBERS], ("counter",), ()


def _change(draw: random.Random) -> str:
    """One override: a choice or a key, right or wrong."""
    groups = choices()
    kind = draw.choice(["choice", "choice", "choice?", "key", "key", "key=", "key?", "key+", "path"])
    group = draw.choice(sorted(groups))
    key, value = draw.choice(sorted(keys().items(), key=lambda item: item[0]))
    match kind:
        case "choice":
            offered = [name for name in groups[group] if name not in SLOW.get(group, ())]
            return f"{group}={draw.choice(offered or ['none'])}"
        case "choice?":
            wrong = draw.choice([misspelt(draw, draw.choice(groups[group])), broken(draw)])
            return f"{group}={wrong}"
        case "key=":
            return f"{key}={_shown(value)}"
        case "key?":
            return f"{misspelt(draw, key)}={_shown(value)}"
        case "key+":
            return f"{draw.choice(['+', '++', '~', '+~'])}{key}={broken(draw)}"
        case "path":
            name = draw.choice(
                ["init_from", "data.path", "data.embedding_path", "data.val_path", "data.cache_dir", "resume"]
            )
            return f"{name}={broken(draw)}"
    return f"{key}={broken(draw)}"


def _slip(draw: random.Random) -> str:
    slips = [
        "depth",
        "=",
        "=3",
        "depth==2",
        "depth =2",
        "~",
        "+",
        "~depth",
        "+depth=2",
        "depth=1 2",
        "-depth=2",
        "--depth=2",
    ]
    slips += [
        "model=",
        "model/lstm",
        "model@x=lstm",
        "model@=gru",
        "+model=gru",
        "~model",
        "a.b.c=1",
        ".=1",
        "depth.=1",
        "model..cell=gru",
    ]
    slips += [
        "[depth]=1",
        "depth=[",
        "d\u200bepth=2",
        "日本=1",
        "model.options.0=1",
        "depth[0]=1",
        "seed:1",
        "?",
        "*",
        "",
        " ",
        "'depth=1'",
    ]
    return draw.choice(slips)


def _shown(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value).replace(" ", "") if isinstance(value, list | dict) else str(value)
