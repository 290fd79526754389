"""Checkpoints: whole or not there, and nothing in them but tensors, numbers, strings, lists and dicts."""

from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile, ZipFile

import torch
from torch import Tensor, nn

from deep_rnn import StackState
from src.errors import FolderGoneError, RequestError
from src.files import atomic_file

VERSION = 2
Counts = TypeVar("Counts")


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint; killed at any moment, the old one is still there.

    Raises:
        RunError: the disk is full or the folder cannot be written.
        FolderGoneError: somebody deleted the folder.
    """
    if not path.parent.is_dir():
        raise FolderGoneError(f"{path.parent}: the folder was deleted while the run was writing to it")
    with atomic_file(path) as file:
        torch.save({"version": VERSION, **to_plain(state)}, file)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, executing nothing that stands in it.

    Raises:
        RequestError: there is none, it is damaged, or another version wrote it.
    """
    try:
        _check_bytes(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise RequestError(f"{path}: no such checkpoint; a run folder has best.ckpt and last.ckpt") from None
    except Exception as error:  # whatever a damaged file makes the reader say
        raise damaged(path, error) from error
    version = state.get("version") if isinstance(state, dict) else None
    if version != VERSION:
        raise RequestError(f"{path}: checkpoint of version {version}, this code reads version {VERSION}")
    return state


def _check_bytes(path: Path) -> None:
    """Compare every part of a checkpoint with its checksum, which torch writes and never reads: one wrong bit among
    the weights would be loaded in silence."""
    with ZipFile(path) as archive:
        if (part := archive.testzip()) is not None:
            raise BadZipFile(f"{part} is not what was written")


def damaged(path: Path, error: Exception) -> RequestError:
    """What to tell of a checkpoint that cannot be read or used."""
    reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
    return RequestError(f"{path}: damaged, or not a checkpoint ({reason}); use another one or train anew")


def load_weights(model: nn.Module, state: dict[str, Any] | Path) -> None:
    """Load the weights that a run is judged by (the averaged ones, where the run kept an average) into a model.

    Args:
        model: the model to fill, on any device.
        state: what `load_checkpoint` returned, or a checkpoint's path.

    Raises:
        RequestError: the checkpoint cannot be read, or is of another model.
    """
    if isinstance(state, Path):
        state = load_checkpoint(state)
    fill(model, judged_weights(state))


def judged_weights(state: dict[str, Any]) -> dict[str, Tensor]:
    """The weights in a checkpoint by which its run is judged: averaged, where the run kept an average.

    Raises:
        RequestError: there are none.
    """
    weights = state.get("average", "lost")
    weights = state.get("model") if weights is None else weights
    if not isinstance(weights, dict) or not all(isinstance(weight, Tensor) for weight in weights.values()):
        raise RequestError("the checkpoint holds no weights; use another one or train anew")
    return weights


def fill(model: nn.Module, weights: dict[str, Tensor]) -> None:
    """Load a state dict, saying in one line what does not fit."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        finding = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise RequestError(f"the checkpoint is of another model than the configuration describes: {finding}") from error


def to_plain(value: Any) -> Any:
    """Copy nested state to the CPU with tuples of any kind as lists, which is all that ``weights_only`` reads back."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu")
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, StackState):
        return to_plain(value.layers)
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(f"a checkpoint holds plain values only, not {type(value).__name__}")


def as_tuples(value: Any) -> Any:
    """Carried state as a checkpoint gives it back, its lists tuples again (of no name)."""
    return tuple(map(as_tuples, value)) if isinstance(value, list) else value


def numbers(kind: type[Counts], state: dict[str, Any]) -> Counts:
    """Make a dataclass of numbers again.

    Raises:
        TypeError: these are not its fields, or not numbers.
    """
    if wrong := [name for name, value in state.items() if not isinstance(value, int | float)]:
        raise TypeError(f"{wrong[0]} is no number")
    return kind(**state)


def to_device(value: Any, device: torch.device) -> Any:
    """Move the tensors of nested plain state to a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: to_device(item, device) for key, item in value.items()}
    return [to_device(item, device) for item in value] if isinstance(value, list) else value
