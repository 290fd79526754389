"""What a failure is to the user: one line that says it, and the exit code."""

import re

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from src.choices import known
from src.errors import RequestError, RunError, did_you_mean


def exit_code(error: BaseException, in_job: bool) -> int:
    """2 for a wrong request, Hydra's own complaints included; 1 for a run that failed."""
    if isinstance(error, RequestError | HydraException | OmegaConfBaseException):
        return 2
    return 2 if not in_job and isinstance(error, ValueError | OSError) else 1  # Hydra's own, before a job began


def explain(error: BaseException, in_job: bool) -> str:
    """Say an error in one line; Hydra's complaints about names get the nearest right one."""
    cause = error.__cause__
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        group, _, name = error.missing_cfg_file.rpartition("/")
        options = error.options or known(group)  # Hydra knows none where several are asked for
        if group == "hydra/launcher":
            extra = name.partition("_")[0]
            return f"launcher={name} needs an extra that is not installed: pip install -e '.[{extra}]'"
        return f"{group}={name}: no such {group}{did_you_mean(name, [o for o in options if o[0] != '_'])}"
    if isinstance(error, HydraException) and isinstance(cause, OmegaConfBaseException) and cause.full_key:
        keys = {str(key) for key in cause.parent_node} if isinstance(cause.parent_node, DictConfig) else set()
        if cause.key not in keys:
            typed = re.search(r"use \+(.*)", str(error))
            near = did_you_mean(str(cause.key), keys - {"hydra"}) if keys else "; this choice has none"
            return f"{typed[1] if typed else cause.full_key}: no such key{near}"
    if isinstance(error, OverrideParseException):
        key, _, value = error.override.partition("=")
        return f"{error.override}: Hydra cannot read this; quote the value for it: \"{key}='{value}'\""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: cannot be made or opened ({error.strerror})"
    hydras = isinstance(error, ValueError) and not isinstance(error, OmegaConfBaseException)
    if hydras and not in_job:  # its own words for users
        return " ".join(str(error).split())
    return one_line(error)


def one_line(error: BaseException) -> str:
    """The message of an error on one line, with its type where the message was not written for users."""
    message = str(error) or str(error.__cause__ or "")
    text = " ".join((message.splitlines()[0] if isinstance(error, OmegaConfBaseException) else message).split())
    for_users = RequestError | RunError | HydraException | OmegaConfBaseException
    return text if isinstance(error, for_users) else f"{type(error).__name__}: {text}"
