"""One Weights & Biases run, which may be slow or out of reach but never stops a training."""

import hashlib
import logging
import os
import secrets
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from src.config import Config, LoggerConfig
from src.errors import RequestError
from src.files import write_atomic

log = logging.getLogger(__name__)

PROBE_SECONDS = 3
INIT_SECONDS = 7
FINISH_SECONDS = 12
"""How long a lost server may hold up the end of an online run; what is left stays on disk for `wandb sync`."""

STEP = "trainer/step"
WRITE_SECONDS = 2.0
"""Between two times at which W&B writes down what it was given; it has no call for that."""
LATE_SECONDS = 120.0
"""What a run logged so long before it was killed may not have been written down, on a busy machine or by a server."""
OPEN = ".wandb_open"
"""In the run folder while the W&B run is open: still there, nobody closed it."""
MOST_ROWS = 1000
"""Of a table that is handed to W&B; the whole of it lies in the run folder."""


class WandbRun:
    """Opens the run that a run folder belongs to, offline unless asked, and offline too where the server is not there.

    All its files go to ``logger.dir``; the run folder keeps the id, so that a resumed run is the same run. Runs of a
    sweep have its name as group and tag.

    Args:
        cfg: the whole configuration, which W&B keeps as well.
        options: of ``conf/logger/wandb.yaml``.
        folder: the run folder.
    """

    def __init__(self, cfg: Config, options: LoggerConfig, folder: Path) -> None:
        self.id = stable_id(folder, cfg.sweep.name)
        self.mark = folder / OPEN
        self.was_killed = self.mark.exists()
        self.mark.touch()
        directory = _prepare(options.dir)
        arguments: dict[str, Any] = {
            "id": self.id,
            "project": options.project,
            "entity": options.entity,
            "group": options.group,
            "job_type": options.job_type or ("sweep" if cfg.sweep.name else "train"),
            "tags": [*options.tags, *filter(None, [cfg.sweep.name])],
            "name": folder.name,
            # wandb adds a folder of this name itself
            "dir": str(directory.parent if directory.name == "wandb" else directory),
            "config": cfg.to_dict(),
            "reinit": "finish_previous",  # without it a second run in this process would be the first one
        }
        self.run = _open(options.mode, arguments)
        self.run.define_metric(STEP)
        self.run.define_metric("*", step_metric=STEP)
        summaries = {
            "val/accuracy": "max",
            "val/loss": "min",
            "train/loss": "min",
            cfg.trainer.monitor: cfg.trainer.mode,
        }
        for name, summary in (summaries | {cfg.trainer.monitor: cfg.trainer.mode}).items():
            self.run.define_metric(name, step_metric=STEP, summary=summary)

    def log(self, metrics: Mapping[str, Any], step: int) -> None:
        """Log numbers at a step."""
        _survive(lambda: self.run.log({**metrics, STEP: step}))

    def send_again(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Log what the run may lack, if it was killed the last time: the last lines of metrics.jsonl.

        Some it may have already: the same numbers at the same step, which draw the same curve.
        """
        if self.was_killed and lines:
            _survive(lambda: self._send(lines))  # a line may be anybody's work

    def _send(self, lines: Sequence[Mapping[str, Any]]) -> None:
        since = lines[-1]["time"] - LATE_SECONDS
        for line in lines:
            if line["time"] >= since:
                known = {name: value for name, value in line.items() if value is not None}
                self.log({name: value for name, value in known.items() if name not in ("step", "time")}, line["step"])

    def log_files(self, files: Mapping[str, Path], step: int) -> None:
        """Log pictures (PNG) as images and the first rows of tables (CSV) as tables, by title; no other files."""
        media: dict[str, Any] = {}
        for title, path in files.items():
            _survive(partial(_add_media, media, title, path))
        self.log(media, step)

    def summarise(self, summary: Mapping[str, Any]) -> None:
        """Put what summary.json holds into the run's summary."""
        _survive(lambda: self.run.summary.update(dict(summary)))

    def log_artifact(self, files: list[Path]) -> None:
        """Keep files as the run's model, without a second copy of them in the home directory."""
        import wandb

        artifact = wandb.Artifact(f"run-{self.id}", type="model")
        for path in files:
            artifact.add_file(str(path), policy="immutable")
        _survive(lambda: self._upload(artifact))

    def _upload(self, artifact: Any) -> None:
        """Log an artifact and, online, wait for it as long as the server is there."""
        import wandb
        from wandb.sdk.artifacts.exceptions import WaitTimeoutError

        logged = self.run.log_artifact(artifact)
        while not self.run.offline and not self.run.disabled:
            try:
                logged.wait(timeout=FINISH_SECONDS)
                return
            except WaitTimeoutError:
                _probe(wandb.setup().settings.base_url)

    def finish(self, exit_code: int) -> None:
        """Close the run."""
        _survive(partial(self._finish, exit_code))

    def _finish(self, exit_code: int) -> None:
        self.run.finish(exit_code=exit_code)
        self.mark.unlink(missing_ok=True)


def _add_media(media: dict[str, Any], title: str, path: Path) -> None:
    """Add a file as W&B shows it; nothing for one that it does not show."""
    import pandas as pd
    import wandb

    if path.suffix == ".png":
        media[title] = wandb.Image(str(path))
    elif path.suffix == ".csv":
        media[title] = wandb.Table(dataframe=pd.read_csv(path, keep_default_na=False, nrows=MOST_ROWS))


def stable_id(folder: Path, sweep: str | None = None) -> str:
    """Return the run's id, which its folder keeps from the first time on; under `wandb agent` the one that it gave.

    A run of a sweep has the one that follows from their names, so that it is the same run after its folder was lost.
    """
    path = folder / "wandb_id"
    if not path.exists():
        given = os.environ.get("WANDB_RUN_ID") if "WANDB_SWEEP_ID" in os.environ else None
        named = hashlib.sha256(f"{sweep}/{folder.name}".encode()).hexdigest()[:8] if sweep else None
        write_atomic(path, given or named or secrets.token_hex(4))
    return path.read_text(encoding="utf-8").strip()


def _prepare(path: str) -> Path:
    """Make the folder for W&B's files and point wandb at it, which else also writes to the home directory."""
    directory = Path(path).resolve()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"logger.dir={path}: cannot be written ({error.strerror})") from error
    for name in ("WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        os.environ.setdefault(name, str(directory / ".cache"))
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its sender holds up the exit for 20 s without a server
    return directory


def _open(mode: Literal["offline", "online", "disabled"], arguments: dict[str, Any]) -> Any:
    """Start the run; where that fails, offline, and where even that fails, not at all."""
    import wandb

    _leave_out_launch()
    settings = wandb.Settings(
        console="off",  # train.log has the lines
        silent=True,
        init_timeout=INIT_SECONDS,
        login_timeout=PROBE_SECONDS,
        finish_timeout=FINISH_SECONDS,
        x_transaction_log_flush_interval=WRITE_SECONDS,
    )
    try:
        if mode != "online":
            return wandb.init(mode=mode, settings=settings, **arguments)
        _probe(wandb.setup().settings.base_url)
        return wandb.init(mode=mode, settings=settings, resume="allow", **arguments)
    except Exception as error:  # whatever it is, the training matters more
        if mode == "disabled":
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        less: Literal["offline", "disabled"] = "offline" if mode == "online" else "disabled"
        later = "; `wandb sync` uploads the run later" if less == "offline" else ""
        log.warning("W&B cannot run %s (%s): going on %s%s", mode, reason, less, later)
        wandb.teardown()  # the failed run holds the id
        return _open(less, arguments)


def _leave_out_launch() -> None:
    """Spare a run the second that loading W&B Launch takes, in which it would look for inputs that were left for it.

    Where its module is not loaded, nobody has left any.
    """
    from wandb.sdk.wandb_run import Run

    if "wandb.sdk.launch.inputs.internal" not in sys.modules and hasattr(Run, "_detect_and_apply_job_inputs"):
        Run._detect_and_apply_job_inputs = lambda self: None  # type: ignore[method-assign]


def _probe(url: str) -> None:
    """Ask the server for anything at all; wandb's own client would keep trying for a minute and a half."""
    try:
        urllib.request.urlopen(url, timeout=PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        pass  # an answer, whatever it says
    except OSError as error:
        raise ConnectionError(f"{url} does not answer: {getattr(error, 'reason', error)}") from error


def _survive(action: Callable[[], object]) -> None:
    try:
        action()
    except Exception as error:
        log.warning("W&B: %s", error)
