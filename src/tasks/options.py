"""What every section of ``conf/task/`` holds; each task adds its own in ``src/tasks/NAME.py``."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from src.choices import Options


def _known_poolings(value: str) -> str:
    from src.modules.sequence import POOLINGS  # late: it brings torch

    if not set(value.split("+")) <= set(POOLINGS):
        raise ValueError(f"should be one of {', '.join(POOLINGS)}, or several joined by +")
    return value


Poolings = Annotated[str, AfterValidator(_known_poolings)]
"""How a sequence becomes one vector: last, max, mean or attention over time, or several joined by ``+``."""


class TaskOptions(Options):
    """What the rest of the program asks of a task's options."""

    name: str
    embedding: Annotated[int, Field(ge=1)]
    """Width of the vectors that ids become; of no effect where the data's inputs are numbers."""
    monitor: str
    """The metric that picks the best epoch; ``trainer.monitor`` follows it."""
    mode: Literal["max", "min"]
