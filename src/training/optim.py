"""Optimizers and learning-rate schedules, by the names that stand in conf/."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau

from src.config import AdamConfig, Config, CosineConfig, OneCycleConfig, PlateauConfig, SGDConfig, WarmupConfig
from src.training.eager import keep_out_compiler, step_in_eager
from src.training.finetuning import levels_of


def build_optimizer(model: nn.Module, cfg: Config) -> Optimizer:
    """Make the optimizer of ``cfg.optimizer`` over the trainable parameters, fused where torch has such a form.

    Weight decay: ``adamw`` decouples it from the gradient (Loshchilov & Hutter 2019) and spares what has fewer than two
    dimensions, biases and norms; the others add it to every gradient (L2), as torch does.
    """
    if cfg.compile:
        return _make_optimizer(model, cfg)
    keep_out_compiler()
    optimizer = _make_optimizer(model, cfg)
    step_in_eager(optimizer)
    return optimizer


def _make_optimizer(model: nn.Module, cfg: Config) -> Optimizer:
    options = cfg.optimizer
    common: dict[str, Any] = {"lr": cfg.lr, "weight_decay": cfg.weight_decay}
    trained = parameter_groups(model, cfg)
    if isinstance(options, AdamConfig):
        common |= {"betas": tuple(options.betas), "eps": options.eps, "amsgrad": options.amsgrad, "fused": True}
        if options.name == "adam":
            return Adam(trained, **common)
        return AdamW([part for group in trained for part in (matrices_of(group), vectors_of(group))], **common)
    if isinstance(options, SGDConfig):
        sgd = SGD(trained, momentum=options.momentum, nesterov=options.nesterov, fused=True, **common)
        return _with_momentum(sgd) if options.momentum else sgd
    common |= {"alpha": options.alpha, "eps": options.eps, "momentum": options.momentum, "centered": options.centered}
    return RMSprop(trained, foreach=True, **common)


def parameter_groups(model: nn.Module, cfg: Config) -> list[dict[str, Any]]:
    """The trainable parameters with their learning rates, from the head down (see ``src.training.finetuning``)."""
    decay = cfg.finetune.layer_decay
    top_down = enumerate(reversed(levels_of(model, cfg)))
    return [{"params": level, "lr": cfg.lr * decay**depth} for depth, level in top_down]


def matrices_of(group: dict[str, Any]) -> dict[str, Any]:
    """The part of a group that has two dimensions or more."""
    return {**group, "params": [parameter for parameter in group["params"] if parameter.ndim > 1]}


def vectors_of(group: dict[str, Any]) -> dict[str, Any]:
    """The part of a group that has fewer, without weight decay."""
    few = [parameter for parameter in group["params"] if parameter.ndim <= 1]
    return {**group, "params": few, "weight_decay": 0.0}


def _with_momentum(sgd: SGD) -> SGD:
    """Start the momentum at zero, which is the same as starting it at the first gradient.

    torch makes the buffer in the first step and, when that step is skipped (`found_inf`), leaves it uninitialised.
    """
    for group in sgd.param_groups:
        for parameter in group["params"]:
            sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def step_unless(optimizer: Optimizer, skip: Tensor) -> None:
    """Step, unless ``skip`` (a bool scalar on the weights' device) is true; the host does not wait for it.

    Fused forms take the flag along and do nothing on the device. For the others the CPU can read it at no cost, and on
    an accelerator the step is taken and undone.
    """
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = skip.to(torch.float32)  # type: ignore[attr-defined]  # the door GradScaler uses
        optimizer.step()
    elif skip.device.type != "cpu":
        step_or_undo(optimizer, skip)
    elif not skip.item():
        optimizer.step()


@contextmanager
def scaled_lr(optimizer: Optimizer, factor: float) -> Iterator[float]:
    """Multiply the learning rates while the block runs; gives the first group's."""
    before = [group["lr"] for group in optimizer.param_groups]
    for group, lr in zip(optimizer.param_groups, before, strict=True):
        group["lr"] = lr * factor
    try:
        yield optimizer.param_groups[0]["lr"]
    finally:
        for group, lr in zip(optimizer.param_groups, before, strict=True):
            group["lr"] = lr


@torch.no_grad()
def step_or_undo(optimizer: Optimizer, skip: Tensor) -> None:
    """Step, then put weights and optimizer state back where ``skip`` is true, all on the device."""
    before = {tensor: tensor.clone() for tensor in _tensors_of(optimizer)}
    optimizer.step()
    for tensor in _tensors_of(optimizer):
        old = before.get(tensor, torch.zeros_like(tensor))  # state made in this very step starts at zero
        tensor.copy_(torch.where(skip, old, tensor))


def _tensors_of(optimizer: Optimizer) -> list[Tensor]:
    weights = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = [value for entry in optimizer.state.values() for value in entry.values() if isinstance(value, Tensor)]
    return weights + [tensor for tensor in state if tensor.device == weights[0].device]


class Schedule:
    """The learning rate over a run: a factor of the step (`step`), or of the monitored metric (`evaluated`).

    The factor is a function of the step alone, so a run that is resumed for more epochs follows the longer curve from
    there on. The schedule counts skipped updates too, because the host does not know of them.
    """

    def __init__(self, optimizer: Optimizer, cfg: Config, total_steps: int) -> None:
        options = cfg.scheduler
        factor = factor_of(cfg, total_steps)
        self.by_step = LambdaLR(optimizer, factor) if factor else None
        self.by_metric: ReduceLROnPlateau | None = None
        if isinstance(options, PlateauConfig):
            self.by_metric = ReduceLROnPlateau(
                optimizer,
                mode=cfg.trainer.mode,
                factor=options.factor,
                patience=options.patience,
                threshold=0.0,
                min_lr=[options.floor * group["lr"] for group in optimizer.param_groups],
            )

    def step(self) -> None:
        """Move on by one update of the weights."""
        if self.by_step is not None:
            self.by_step.step()

    def evaluated(self, value: float) -> None:
        """Take note of the monitored metric."""
        if self.by_metric is not None:
            self.by_metric.step(value)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain values."""
        parts = {"by_step": self.by_step, "by_metric": self.by_metric}
        return {name: part.state_dict() for name, part in parts.items() if part is not None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` returned."""
        if self.by_step is not None:
            self.by_step.load_state_dict(state["by_step"])
            step, groups = self.by_step.last_epoch, self.by_step.optimizer.param_groups
            for group, base, factor in zip(groups, self.by_step.base_lrs, self.by_step.lr_lambdas, strict=True):
                group["lr"] = base * factor(step)  # of this run's curve, not of where the old one was
        if self.by_metric is not None:
            self.by_metric.load_state_dict(state["by_metric"])


def factor_of(cfg: Config, total_steps: int) -> Callable[[int], float] | None:
    """Return what the learning rate is multiplied with at a step (0 is the first update), or None for nothing."""
    options = cfg.scheduler
    if isinstance(options, WarmupConfig):
        return lambda step: _rise(step, options.warmup_steps)
    if isinstance(options, CosineConfig):
        warmup, floor = options.warmup_steps, options.floor
        return lambda step: _rise(step, warmup) * _cosine(1.0, floor, _share(step - warmup, total_steps - warmup))
    if isinstance(options, OneCycleConfig):
        top = options.rise * total_steps
        return lambda step: (
            _cosine(options.start, 1.0, _share(step, top))
            if step < top
            else _cosine(1.0, options.floor, _share(step - top, total_steps - top))
        )
    return None


def _rise(step: int, warmup: int) -> float:
    """Linear from 1 / warmup at the first update to 1 at update number ``warmup``."""
    return min((step + 1) / warmup, 1.0) if warmup else 1.0


def _share(step: float, steps: float) -> float:
    return min(max(step / max(steps, 1), 0.0), 1.0)


def _cosine(start: float, end: float, share: float) -> float:
    """Half a cosine from ``start`` (share 0) to ``end`` (share 1)."""
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
