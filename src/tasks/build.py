"""The way in: from the options of a task to the task."""

from src.choices import module_of
from src.config import Config
from src.data.base import DataSpec
from src.tasks.base import Task


def build_task(cfg: Config, spec: DataSpec) -> Task:
    """Make the task that the config names, for data that says this of itself.

    Raises:
        RequestError: the task cannot be learned from such data.
    """
    return module_of("task", cfg.task.name).build(cfg, spec)
