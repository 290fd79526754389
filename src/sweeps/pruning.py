"""Ending a hopeless run early, by what its siblings had reached at the same epoch.

The median stopping rule of Golovin et al. (2017, "Google Vizier"), over the siblings' metrics.jsonl: nothing but the
run folders is needed, so that it works under any launcher, and on several machines that share them.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from src.config import Config
from src.errors import RequestError
from src.tracking.metrics_file import read_metrics

Prune = Callable[[int, float], str | None]
"""From the epochs finished and the run's best value so far to why it should end, or to nothing."""


def pruning_rule(cfg: Config, folder: Path) -> Prune | None:
    """The rule that ``sweep.prune`` names, for the run in ``folder``; none where runs are not to be pruned."""
    return median_rule(cfg, folder) if cfg.sweep.prune == "median" else None


def median_rule(cfg: Config, folder: Path) -> Prune:
    """End a run whose best so far is worse than the median of its siblings' bests up to the same epoch.

    Only siblings that have come as far count; there must be ``sweep.min_siblings`` of them, and no run ends before
    ``sweep.warmup_epochs``.
    """
    monitor, sign = cfg.trainer.monitor, 1 if cfg.trainer.mode == "max" else -1

    def rule(epoch: int, best: float) -> str | None:
        if epoch < cfg.sweep.warmup_epochs:
            return None
        bests = siblings_bests(folder, monitor, sign, epoch)
        if len(bests) < cfg.sweep.min_siblings or sign * best >= sign * (middle := median(bests)):
            return None
        return f"{monitor} {best:.4f} after epoch {epoch}, the median of {len(bests)} siblings is {middle:.4f}"

    return rule


def siblings_bests(folder: Path, monitor: str, sign: int, epoch: int) -> list[float]:
    """What each sibling that has come to an epoch had reached by then."""
    bests = []
    for path in folder.parent.glob("*/metrics.jsonl"):
        if path.parent.name != folder.name:
            try:
                best = best_until(read_metrics(path), monitor, sign, epoch)
            except (OSError, RequestError, AttributeError):  # deleted, damaged or no run at all: no sibling
                continue
            if best is not None:
                bests.append(best)
    return bests


def best_until(lines: Iterable[Mapping[str, Any]], monitor: str, sign: int, epoch: int) -> float | None:
    """The best value of evaluations up to an epoch; none for a run that has not come as far."""
    evaluated = [line for line in lines if line.get(monitor) is not None]
    if not evaluated or max(line["epoch"] for line in evaluated) < epoch:
        return None
    values = [line[monitor] for line in evaluated if line["epoch"] <= epoch]
    return max(values, key=lambda value: sign * value, default=None)
