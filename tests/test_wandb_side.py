"""What is there for those who work from W&B's side: the workspace, and the sweep that W&B drives."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers import environment
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

from src.arguments import CONF
from src.data.options import DataOptions
from src.diagnostics.collection import KINDS

SCRIPTS = CONF.parent / "scripts"


def run_dashboard(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = environment(tmp_path) | {"HOME": str(tmp_path), "WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true"}
    env.pop("WANDB_API_KEY", None)
    command = [sys.executable, str(SCRIPTS / "dashboard.py"), *arguments]
    return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=120)


def test_without_a_key_the_workspace_is_printed_whole_as_json(tmp_path):
    printed = run_dashboard(tmp_path, "--entity", "me", "--metric", "val/perplexity", "--mode", "min")
    assert printed.returncode == 0, printed.stderr
    built = json.loads(printed.stdout)
    assert (built["entity"], built["project"]) == ("me", "deep-rnn")
    sections = built["spec"]["section"]["panelBankConfig"]["sections"]
    panels = [panel for section in sections for panel in section["panels"]]
    kinds = {panel["viewType"] for panel in panels}
    assert {"Run History Line Plot", "Parallel Coordinates Plot", "Media Browser", "Scatter Plot"} <= kinds
    grouped = [panel["config"]["groupBy"] for panel in panels if panel["config"].get("groupBy")]
    assert grouped == ["depth.value", "model.value.cell", "link.value.name"]  # as W&B has our nested configuration
    media = {key for panel in panels for key in panel["config"].get("mediaKeys", [])}
    assert media == set(KINDS)  # the pictures that the diagnostics hand to W&B
    (parallel,) = [panel for panel in panels if panel["viewType"] == "Parallel Coordinates Plot"]
    assert parallel["config"]["columns"][-1]["accessor"] == "summary:val/perplexity.min"


def test_the_project_is_the_one_that_runs_are_logged_to(configured):
    logger = configured().logger
    assert f'default="{logger.project}"' in (SCRIPTS / "dashboard.py").read_text()
    assert yaml.safe_load((SCRIPTS / "wandb_sweep.yaml").read_text())["project"] == logger.project


@pytest.fixture
def sweep():
    return yaml.safe_load((SCRIPTS / "wandb_sweep.yaml").read_text())


def agents_command(sweep, pick):
    """The command that `wandb agent` makes of the sweep and the values that the server picked."""
    values = {name: {"value": pick(options)} for name, options in sweep["parameters"].items()}
    macros = create_sweep_command_args({"args": values})
    command = create_sweep_command(list(sweep["command"]))
    return [
        word for part in command for word in (macros["args_no_hyphens"] if part == "${args_no_hyphens}" else [part])
    ]


def first(options):
    return options.get("value", options.get("values", [options.get("min")])[0])


def last(options):
    return options.get("value", options.get("values", [options.get("max")])[-1])


@pytest.mark.parametrize("pick", [first, last])
def test_the_sweep_that_wandb_drives_asks_for_what_the_door_takes(sweep, pick, configured):
    assert sweep["metric"] == {"name": configured().trainer.monitor, "goal": "maximize"}
    env, python, *module = agents_command(sweep, pick)
    assert (env, python, module[:2]) == ("${env}", "python", ["-m", "src.train"])
    cfg = configured(*module[2:])
    assert cfg.logger.mode == "online"
    assert (cfg.model.cell, cfg.link.name) == (("rnn", "none") if pick is first else ("gru", "highway"))
    assert cfg.lr == pick(sweep["parameters"]["lr"]) and isinstance(cfg.data, DataOptions)


@pytest.mark.slow
def test_a_run_that_the_agent_starts_trains_under_the_agents_id(sweep, reviews, tmp_path):
    command = [sys.executable, *agents_command(sweep, first)[2:]]
    ours = ["logger.mode=offline", "data=text_file", f"data.path={reviews}", "epochs=1", "hydra.run.dir=run"]
    env = environment(tmp_path) | {"WANDB_RUN_ID": "agent123", "WANDB_SWEEP_ID": "sweep1"}
    done = subprocess.run(command + ours, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "DONE").exists()
    assert (tmp_path / "run" / "wandb_id").read_text() == "agent123"
    assert [path for path in os.listdir(tmp_path / "outputs" / "wandb") if path.endswith("-agent123")]
