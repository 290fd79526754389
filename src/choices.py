"""Choices that are found by their name, and listed nowhere, so that a new one is its own files and no other.

``conf/data/NAME.yaml`` belongs to ``src/data/NAME.py``, and ``conf/task/NAME.yaml`` to ``src/tasks/NAME.py``. Such a
module has two names: ``Options``, the class of its section of the configuration, and ``build``.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic_core import PydanticKnownError

from src.errors import RequestError

CONF = Path(__file__).resolve().parent.parent / "conf"
ROOMS = {"data": "src.data", "task": "src.tasks"}


class Options(BaseModel):
    """A part of the configuration: immutable, no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def known(group: str) -> list[str]:
    """The names that a group has in conf/."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if not path.name.startswith("_"))


def module_of(group: str, name: str) -> ModuleType:
    """Import the module behind a choice.

    Raises:
        RequestError: conf/ has the choice, but nobody wrote its module, or it lacks one of its two names.
    """
    module_name = f"{ROOMS[group]}.{name}"
    path = module_name.replace(".", "/") + ".py"
    try:
        module = import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise RequestError(f"conf/{group}/{name}.yaml has no module: write {path}") from None
    for needed in ("Options", "build"):
        if not hasattr(module, needed):
            raise RequestError(f"{path} has no {needed!r}; a {group} module needs Options and build")
    return module


def options_by_name(group: str) -> Callable[[Any], Any]:
    """A validator that hands a section of the configuration to the ``Options`` of the module it names."""

    def validate(section: Any) -> Any:
        if not isinstance(section, Mapping) or "name" not in section:
            return section  # an instance already, or for the field's own type to complain about
        names = known(group)
        if section["name"] not in names:
            expected = ", ".join(f"'{name}'" for name in names)
            context = {"discriminator": "'name'", "tag": str(section["name"]), "expected_tags": expected}
            raise PydanticKnownError("union_tag_invalid", context)
        return module_of(group, section["name"]).Options.model_validate(section)

    return validate
