"""The mirror of conf/: types, ranges and error messages. Past this file nothing handles a DictConfig.

YAML holds every value, the classes hold none, so that a default stands in one place only. A request that does not fit
becomes a ``RequestError`` of one line.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException
from pydantic import AfterValidator, BeforeValidator, Field, SerializeAsAny, ValidationError, model_validator

from src.choices import Options as Section
from src.choices import options_by_name
from src.data.options import DataOptions
from src.errors import RequestError, did_you_mean
from src.older import completed
from src.tasks.options import TaskOptions

PositiveInt = Annotated[int, Field(ge=1)]
PositiveFloat = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]


def _off(value: object) -> object:
    return "off" if value is False else value  # YAML reads a bare `off` as False


def _thousands(value: object) -> object:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kM])", value) if isinstance(value, str) else None
    return round(float(match[1]) * {"k": 1_000, "M": 1_000_000}[match[2]]) if match else value


DEVICES = r"auto|cpu|mps|cuda(:\d+)?"
"""The pattern of what ``device`` may be."""


def _device(value: str) -> str:
    if not re.fullmatch(DEVICES, value):
        raise ValueError("should be auto, cpu, mps, cuda or cuda:N")
    return value


class ModelConfig(Section):
    """``conf/model/``: the cell, and what belongs to it."""

    cell: str | list[str]
    """A name of ``deep_rnn.cells.CELLS``, or one for each layer."""
    options: dict[str, Any]
    """Keyword arguments of the cell, such as ``activation`` or ``reset_after``; a list gives each layer its own."""
    merge: Literal["concat", "sum", "mean", "mul"]
    """How the two directions of a bidirectional layer become one."""
    bias: bool
    norm: Literal["none", "layer", "rms"]
    norm_place: Literal["pre", "post"]
    init: str
    """A named initialiser of ``deep_rnn.init``."""
    forget_bias: float | None
    horizon: PositiveInt
    learn_state: bool
    recompute: PositiveInt | None


class NoLinkConfig(Section):
    """``conf/link/none.yaml``: a plain stack."""

    name: Literal["none"]


class LinkConfig(Section):
    """``conf/link/residual.yaml`` and ``dense.yaml``: what runs past a layer."""

    name: Literal["residual", "dense"]
    start: Annotated[int, Field(ge=0)]
    """The first layer that has the link."""


class HighwayConfig(Section):
    """``conf/link/highway.yaml``: the gated link of Srivastava et al. (2015)."""

    name: Literal["highway"]
    gate_bias: float
    """Bias of the transform gate at the start; negative lets the input through."""
    start: Annotated[int, Field(ge=0)]


class RegulariseConfig(Section):
    """``conf/regularise/``: noise inside the stack, and penalties on what it puts out."""

    locked_dropout: bool
    recurrent_dropout: Share
    candidate_dropout: Share
    weight_drop: Share
    zoneout: Share | list[Share]
    activation: NonNegativeFloat
    """Weight of the mean square of the outputs in the loss."""
    temporal: NonNegativeFloat
    """Weight of the mean square of their change from step to step."""


class AdamConfig(Section):
    """``conf/optimizer/adam.yaml`` and ``adamw.yaml``."""

    name: Literal["adam", "adamw"]
    betas: Annotated[list[Share], Field(min_length=2, max_length=2)]
    eps: PositiveFloat
    amsgrad: bool


class RMSpropConfig(Section):
    """``conf/optimizer/rmsprop.yaml``."""

    name: Literal["rmsprop"]
    alpha: Share
    eps: PositiveFloat
    momentum: Share
    centered: bool


class SGDConfig(Section):
    """``conf/optimizer/sgd.yaml``."""

    name: Literal["sgd"]
    momentum: Share
    nesterov: bool

    @model_validator(mode="after")
    def _nesterov_needs_momentum(self) -> Self:
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov=true needs momentum above 0")
        return self


class ConstantConfig(Section):
    """``conf/scheduler/constant.yaml``: the learning rate stays as it is."""

    name: Literal["constant"]


class WarmupConfig(Section):
    """``conf/scheduler/warmup.yaml``: a linear rise over the first steps, then constant."""

    name: Literal["warmup"]
    warmup_steps: PositiveInt


class CosineConfig(Section):
    """``conf/scheduler/cosine.yaml``: half a cosine down to ``floor`` times the rate, after an optional rise."""

    name: Literal["cosine"]
    warmup_steps: Annotated[int, Field(ge=0)]
    floor: Share


class PlateauConfig(Section):
    """``conf/scheduler/plateau.yaml``: times ``factor`` after ``patience`` evaluations without a better monitor."""

    name: Literal["plateau"]
    factor: Annotated[float, Field(gt=0, lt=1)]
    patience: Annotated[int, Field(ge=0)]
    floor: Share


class OneCycleConfig(Section):
    """``conf/scheduler/one_cycle.yaml``: up to ``lr`` and down to nearly nothing (Smith & Topin 2018)."""

    name: Literal["one_cycle"]
    rise: Annotated[float, Field(gt=0, lt=1)]
    """Share of the steps that go up."""
    start: Annotated[float, Field(gt=0, le=1)]
    """First rate, as a share of ``lr``."""
    floor: Share
    """Last rate, as a share of ``lr``."""


LOWER_IS_BETTER = {"loss", "perplexity", "bits_per_character", "mae"}
HIGHER_IS_BETTER = {
    "accuracy",
    "balanced_accuracy",
    "macro_f1",
    "micro_f1",
    "exact_match",
    "roc_auc",
    "average_precision",
}
"""Of the metrics that come with the tasks; of any other ``trainer.mode`` alone knows."""


class TrainerConfig(Section):
    """``conf/trainer/``: how the loop runs, past what stands at the top level."""

    accumulate: PositiveInt
    """Batches whose gradients make one step."""
    bucket: bool
    """Put sequences of similar length into one batch, which saves padding."""
    clip_by: Literal["norm", "value"]
    patience: PositiveInt | None
    """Early stopping: evaluations without a better ``monitor`` before the run ends."""
    monitor: str
    mode: Literal["max", "min"]
    nonfinite: Literal["stop", "skip"]
    """What a loss or gradient that is not finite does."""
    log_every: PositiveInt
    """Steps between two lines of metrics."""
    eval_every: PositiveInt
    """Epochs between two evaluations."""
    checkpoint_minutes: PositiveFloat
    """Minutes between two ``last.ckpt`` within an epoch."""
    timeout_minutes: PositiveFloat
    """Minutes that one of several processes may let the others wait before the run ends."""
    average: Annotated[float, Field(gt=0, lt=1)] | Literal["uniform"] | None
    """Decay of the moving average of the weights that is evaluated and kept, or ``uniform``; none without."""
    average_after: PositiveInt | None
    """The average begins at an evaluation worse than the best of those more than so many before it (NT-ASGD)."""
    progress: bool
    summary: bool
    limit_batches: PositiveInt | None
    """Batches of an epoch, and of an evaluation; all without."""
    overfit: bool
    """Train and evaluate on the first batch only, again and again."""
    profile: bool
    """Write where the time goes to ``profile.txt`` and ``trace.json`` in the run folder."""
    anomaly: bool
    """Stop at the operation whose gradient is not a number (slow)."""

    @model_validator(mode="after")
    def _looks_the_right_way(self) -> Self:
        metric = self.monitor.rpartition("/")[2]
        mode = "min" if metric in LOWER_IS_BETTER else "max" if metric in HIGHER_IS_BETTER else self.mode
        if self.mode != mode:
            better = "smaller" if mode == "min" else "larger"
            raise ValueError(f"monitor={self.monitor} is better when it is {better}: set trainer.mode={mode} too")
        return self

    @model_validator(mode="after")
    def _begins_an_average(self) -> Self:
        if self.average_after is not None and self.average is None:
            raise ValueError("average_after says when an average begins: it needs trainer.average, such as uniform")
        return self


class FinetuneConfig(Section):
    """``conf/finetune/``: how the levels of a model (embedding, layers, head) learn apart (Howard & Ruder 2018)."""

    layer_decay: Annotated[float, Field(gt=0, le=1)]
    """Learning rate of a level as a share of that of the level above it."""
    unfreeze_epochs: PositiveInt | None
    """Gradual unfreezing: epochs after which the next level below begins to learn; none: all learn from the start."""


class LoggerConfig(Section):
    """``conf/logger/wandb.yaml``: Weights & Biases beside the files that are always written."""

    name: Literal["wandb"]
    mode: Literal["offline", "online", "disabled"]
    project: str
    entity: str | None
    group: str | None
    job_type: str | None
    tags: list[str]
    dir: str
    log_artifact: bool
    """Keep the best checkpoint as a W&B artifact."""


class NoLoggerConfig(Section):
    """``conf/logger/none.yaml``: only the files in the run folder."""

    name: Literal["none"]


class GradientFlowConfig(Section):
    """``conf/diagnostics/gradient_flow.yaml``: dLoss/dh for every layer and time step."""

    every: PositiveInt
    """Steps between two looks."""


class MemoryConfig(Section):
    """``conf/diagnostics/memory.yaml``: how far back each layer's last state depends on the input."""

    every: PositiveInt
    """Steps between two looks."""


class ProbeConfig(Section):
    """``conf/diagnostics/probe.yaml``: a linear probe on each layer's states, at every evaluation."""

    examples: PositiveInt
    """Sequences (or steps, where each has a target) of training and of validation that it may see."""
    ridge: PositiveFloat
    """Penalty on its weights, as a share of the features' variance."""


class DiagnosticsConfig(Section):
    """``conf/diagnostics/``: what is measured beside the metrics; none where null."""

    gradient_flow: GradientFlowConfig | None
    memory: MemoryConfig | None
    probe: ProbeConfig | None


class SearchConfig(Section):
    """``sweep.search``: let Optuna choose what to run."""

    trials: PositiveInt
    """Of the whole study, those of other machines included."""
    at_once: PositiveInt
    """Trials that are asked for, and launched, at a time."""
    storage: str
    """A journal file, below the sweep folder unless absolute, or the URL of a database."""


class SweepConfig(Section):
    """``conf/sweep/``: what the runs of a sweep share."""

    name: str | None
    """Folder and W&B group of the sweep; none for a single run."""
    retry_failed: bool
    fail_fast: bool
    prune: Literal["median"] | None
    """The rule by which hopeless runs end early (see ``src.sweeps.pruning``)."""
    warmup_epochs: PositiveInt
    min_siblings: PositiveInt
    search: SearchConfig | None


LinkOptions = Annotated[NoLinkConfig | LinkConfig | HighwayConfig, Field(discriminator="name")]
OptimizerConfig = Annotated[AdamConfig | RMSpropConfig | SGDConfig, Field(discriminator="name")]
SchedulerConfig = Annotated[
    ConstantConfig | WarmupConfig | CosineConfig | PlateauConfig | OneCycleConfig, Field(discriminator="name")
]
LoggerOptions = Annotated[LoggerConfig | NoLoggerConfig, Field(discriminator="name")]


class Config(Section):
    """One run, whole: what ``conf/config.yaml`` composes to and a run folder's ``config.yaml`` holds."""

    model: ModelConfig
    link: LinkOptions
    regularise: RegulariseConfig
    task: Annotated[SerializeAsAny[TaskOptions], BeforeValidator(options_by_name("task"))]
    data: Annotated[SerializeAsAny[DataOptions], BeforeValidator(options_by_name("data"))]
    optimizer: OptimizerConfig
    scheduler: SchedulerConfig
    trainer: TrainerConfig
    finetune: FinetuneConfig
    logger: LoggerOptions
    diagnostics: DiagnosticsConfig
    sweep: SweepConfig

    depth: Annotated[int, Field(ge=1, le=1000)]
    width: PositiveInt | list[PositiveInt]
    param_budget: Annotated[PositiveInt | None, BeforeValidator(_thousands)]
    bidirectional: bool | Literal["stacks"]
    dropout: Share | list[Share]
    backend: str
    lr: PositiveFloat
    weight_decay: NonNegativeFloat
    batch_size: PositiveInt
    epochs: PositiveInt
    clip: PositiveFloat | None
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    amp: Annotated[Literal["off", "bf16", "fp16"], BeforeValidator(_off)]
    device: Annotated[str, AfterValidator(_device)]
    deterministic: bool
    compile: bool
    threads: Annotated[int, Field(ge=1, le=1024)] | None
    max_minutes: PositiveFloat | None
    max_steps: PositiveInt | None
    init_from: str | None
    resume: str | None

    @model_validator(mode="after")
    def _one_entry_a_layer(self) -> Self:
        for key, value in (("width", self.width), ("dropout", self.dropout), ("model.cell", self.model.cell)):
            if isinstance(value, list) and len(value) != self.depth:
                raise ValueError(f"{key}={shown(value)} names {len(value)} layers, but depth={self.depth}")
        return self

    def to_dict(self) -> dict[str, Any]:
        """The plain container that the run folder and W&B keep; ``Config(**that)`` gives the same again."""
        return self.model_dump()


def compose_config(cfg: DictConfig | Mapping[str, Any]) -> Config:
    """Turn what Hydra composed, or a run folder's config, into a ``Config``.

    Raises:
        RequestError: one line for the first thing that does not fit.
    """
    request: Any = cfg
    try:
        if isinstance(cfg, DictConfig):
            request = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        return Config.model_validate(request)
    except OmegaConfBaseException as error:
        if isinstance(error, MissingMandatoryValue):
            raise RequestError(f"{error.full_key}= is missing: this choice has no default for it") from error
        raise RequestError(f"{error.full_key}: {str(error).splitlines()[0]}".removeprefix("None: ")) from error
    except ValidationError as error:
        raise RequestError(explain(error, request)) from error


def with_keys(config: Config, other: Config, keys: Iterable[str]) -> Config:
    """A config that takes these keys (``epochs``, ``trainer.progress``) from ``other``, and is checked anew."""
    changed, source = config.to_dict(), other.to_dict()
    for key in keys:
        *sections, last = key.split(".")
        target, value = changed, source
        for section in sections:
            target, value = target[section], value[section]
        target[last] = value[last]
    return compose_config(changed)


def read_config(folder: str | Path, key: str = "run") -> Config:
    """Read the config that a run folder holds; ``key`` is what the user calls the folder.

    Raises:
        RequestError: the folder is none, holds no run, or its config.yaml is damaged or of another version.
    """
    path = Path(folder) / "config.yaml"
    if not path.is_file():
        siblings = {other.parent.name for other in path.parent.parent.glob("*/config.yaml")}
        near = did_you_mean(path.parent.name, siblings) if siblings else ""
        what = "holds no run (no config.yaml in it)" if path.parent.is_dir() else "no such folder"
        raise RequestError(f"{key}={folder}: {what}{near}")
    try:
        container = yaml.safe_load(path.read_text(encoding="utf-8"))
        return compose_config(completed(container) if isinstance(container, dict) else {})
    except (yaml.YAMLError, UnicodeDecodeError, RequestError) as error:
        reason = " ".join(str(error).split())
        raise RequestError(f"{path} is damaged, or another version wrote it: {reason}") from error


def explain(error: ValidationError, request: object) -> str:
    """Say pydantic's first finding in one line: key, wrong value, what was expected, the nearest right name.

    ``request`` is the container that was refused. Walking it, and not the finding's own path, gives the key as the user
    writes it: pydantic's path names the member of a union too.
    """
    findings = error.errors(include_url=False)
    findings = [finding for finding in findings if finding["loc"][:1] == findings[0]["loc"][:1]]
    scalar = [finding for finding in findings if finding["type"] != "list_type"]  # `1.5` was not meant as a list
    close = scalar if any(not finding["type"].endswith("_type") for finding in scalar) else findings
    first = max(close, key=lambda finding: len(finding["loc"]))  # a union's nearest member
    node, path = request, list[str]()
    for part in first["loc"]:
        known = node
        if isinstance(node, Mapping) and part in node:
            node = node[part]
            path.append(str(part))
        elif isinstance(node, list) and isinstance(part, int):
            node = node[part]
            path[-1] += f"[{part}]"
    key = ".".join(path)
    match first["type"]:
        case "extra_forbidden" if isinstance(known, Mapping):
            return f"{key}: no such key{did_you_mean(path[-1], known.keys() - {path[-1]})}"
        case "missing":
            return f"{key}.{first['loc'][-1]} is missing".removeprefix(".")
        case "union_tag_invalid":
            tags = re.findall(r"'(\w+)'", first["ctx"]["expected_tags"])
            return f"{key}.name={first['ctx']['tag']}: unknown name{did_you_mean(first['ctx']['tag'], tags)}"
    if isinstance(first["input"], Mapping):  # a rule across the keys of a section: its message says it all
        return f"{key}: {first['msg'].removeprefix('Value error, ')}".removeprefix(": ")
    same = [finding["msg"] for finding in close if finding["input"] is first["input"]]
    expected = " or ".join(dict.fromkeys(re.sub(r"^.*?should be ", "be ", message) for message in same))
    expected = re.sub("^.*?should ", "", expected).replace(" or be ", " or ")
    return f"{key}={shown(first['input'])}: should {expected}"


def shown(value: object) -> str:
    """Write a value as it stands on the command line."""
    if isinstance(value, list):
        return f"[{','.join(map(shown, value))}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
