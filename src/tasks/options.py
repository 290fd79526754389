"""What every section of ``conf/task/`` holds; each task adds its own in ``src/tasks/NAME.py``."""

from typing import Annotated, Literal

from pydantic import Field

from src.choices import Options


class TaskOptions(Options):
    """What the rest of the program asks of a task's options."""

    name: str
    embedding: Annotated[int, Field(ge=1)]
    """Width of the vectors that ids become; of no effect where the data's inputs are numbers."""
    monitor: str
    """The metric that picks the best epoch; ``trainer.monitor`` follows it."""
    mode: Literal["max", "min"]
