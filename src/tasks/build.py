"""Tasks by name."""

from src.config import Config
from src.data.text_data import DataSpec
from src.tasks.base import Task
from src.tasks.classification import Classification

TASKS: dict[str, type[Classification]] = {"classification": Classification}
"""Name to task: called with the options of its own class and what the data says of itself."""


def build_task(cfg: Config, spec: DataSpec) -> Task:
    """Make the task that the config names."""
    return TASKS[cfg.task.name](cfg.task, spec, cfg.regularise.activation, cfg.regularise.temporal)
