"""Optimizers and schedules do what torch's own do, and skip a step without a trace."""

import copy
from typing import Any

import pytest
import tiny
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR

from src.training.optim import Schedule, build_optimizer, step_or_undo, step_unless

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adam": {"name": "adam", "betas": [0.9, 0.99], "eps": 1e-8, "amsgrad": False},
    "adamw": {"name": "adamw", "betas": [0.9, 0.99], "eps": 1e-8, "amsgrad": True},
    "rmsprop": {"name": "rmsprop", "alpha": 0.9, "eps": 1e-8, "momentum": 0.5, "centered": True},
    "sgd": {"name": "sgd", "momentum": 0.0, "nesterov": False},
    "momentum": {"name": "sgd", "momentum": 0.9, "nesterov": True},
}
REFERENCES: dict[str, Any] = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.9, 0.99), fused=False),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.1, betas=(0.9, 0.99), weight_decay=0.0, amsgrad=True, fused=False),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.1, alpha=0.9, momentum=0.5, centered=True, foreach=False),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, fused=False),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, fused=False),
}


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2).double()


def set_gradients(model: nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


def weights(model: nn.Module) -> list[list[float]]:
    return [parameter.flatten().tolist() for parameter in model.parameters()]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizer_makes_the_steps_of_torchs_plain_form(name: str) -> None:
    ours, theirs = small_model(), small_model()
    optimizer = build_optimizer(ours, tiny.make_config(optimizer=OPTIMIZERS[name], lr=0.1))
    reference = REFERENCES[name](theirs.parameters())
    for seed in range(5):
        set_gradients(ours, seed)
        set_gradients(theirs, seed)
        step_unless(optimizer, torch.tensor(False))
        reference.step()
    for left, right in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-12)  # float64, sums in another order


@pytest.mark.parametrize("step", [step_unless, step_or_undo], ids=["unless", "or_undo"])
@pytest.mark.parametrize("bad_step", [0, 2])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_skipped_step_leaves_no_trace(name: str, bad_step: int, step: Any) -> None:
    """A bad gradient at any step, the very first included, is as if that step had never been."""
    models = small_model(), small_model()
    cfg = tiny.make_config(optimizer=OPTIMIZERS[name], lr=0.1, weight_decay=0.01)
    clean, hurt = (build_optimizer(model, cfg) for model in models)
    for seed in range(4):
        if seed == bad_step:
            for parameter in models[1].parameters():
                parameter.grad = torch.full_like(parameter, float("nan"))
            before = weights(models[1])
            step(hurt, torch.tensor(True))
            assert weights(models[1]) == before
        for model, optimizer in zip(models, (clean, hurt), strict=True):
            set_gradients(model, seed)
            step(optimizer, torch.tensor(False))
    assert weights(models[0]) == weights(models[1])


def test_adamw_spares_biases_from_weight_decay_and_adam_does_not() -> None:
    for name, moved in (("adamw", False), ("adam", True)):
        model = small_model()
        optimizer = build_optimizer(model, tiny.make_config(optimizer=OPTIMIZERS[name], lr=0.1, weight_decay=0.5))
        before = copy.deepcopy(model.state_dict())
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        assert not torch.equal(model.weight, before["weight"])
        assert torch.equal(model.bias, before["bias"]) is not moved


def rates(scheduler: dict[str, Any], steps: int, total: int, lr: float = 0.2) -> list[float]:
    """The learning rate of each update."""
    model = small_model()
    cfg = tiny.make_config(scheduler=scheduler, lr=lr, optimizer=OPTIMIZERS["sgd"])
    optimizer = build_optimizer(model, cfg)
    schedule, seen = Schedule(optimizer, cfg, total), []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        set_gradients(model, 0)
        optimizer.step()
        schedule.step()
    return seen


def reference_rates(make: Any, steps: int, lr: float = 0.2) -> list[float]:
    optimizer = torch.optim.SGD(small_model().parameters(), lr=lr)
    scheduler, seen = make(optimizer), []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_constant_stays() -> None:
    assert rates({"name": "constant"}, 5, 5) == [0.2] * 5


def test_warmup_rises_to_the_rate_and_stays() -> None:
    assert rates({"name": "warmup", "warmup_steps": 4}, 6, 6) == pytest.approx([0.05, 0.1, 0.15, 0.2, 0.2, 0.2])


def test_cosine_is_torchs_and_may_start_with_a_warmup() -> None:
    plain = rates({"name": "cosine", "warmup_steps": 0, "floor": 0.1}, 20, 20)
    assert plain == pytest.approx(reference_rates(lambda o: CosineAnnealingLR(o, T_max=20, eta_min=0.02), 20))
    warmed = rates({"name": "cosine", "warmup_steps": 5, "floor": 0.1}, 25, 25)
    assert warmed[:5] == pytest.approx([0.04, 0.08, 0.12, 0.16, 0.2])
    assert warmed[5:] == pytest.approx(plain)


def test_cosine_past_its_end_stays_at_the_floor() -> None:
    assert rates({"name": "cosine", "warmup_steps": 0, "floor": 0.1}, 14, 10)[10:] == pytest.approx([0.02] * 4)


def test_one_cycle_has_torchs_shape() -> None:
    ours = rates({"name": "one_cycle", "rise": 0.3, "start": 0.04, "floor": 1e-4}, 101, 100)
    theirs = reference_rates(
        lambda o: OneCycleLR(
            o, 0.2, total_steps=102, pct_start=0.3, div_factor=25, final_div_factor=400, cycle_momentum=False
        ),
        101,
    )
    assert ours[0] == pytest.approx(0.008)
    assert ours[30] == pytest.approx(0.2)
    assert ours[100] == pytest.approx(2e-5)
    # torch counts from 0 to total - 1, so its top lies within a step of ours
    assert max(abs(a - b) for a, b in zip(ours, theirs, strict=True)) < 0.2 * 0.05


def test_plateau_lowers_the_rate_only_when_the_metric_stops_getting_better() -> None:
    cfg = tiny.make_config(scheduler={"name": "plateau", "factor": 0.5, "patience": 1, "floor": 0.3}, lr=0.2)
    optimizer = build_optimizer(small_model(), cfg)
    schedule, seen = Schedule(optimizer, cfg, 100), []
    for accuracy in (0.5, 0.6, 0.6, 0.55, 0.7, 0.1, 0.1, 0.1, 0.1):
        schedule.evaluated(accuracy)
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx([0.2, 0.2, 0.2, 0.1, 0.1, 0.1, 0.06, 0.06, 0.06])


def test_plateau_lowers_every_level_to_its_own_floor() -> None:
    cfg = tiny.make_config(scheduler={"name": "plateau", "factor": 0.1, "patience": 0, "floor": 0.3}, lr=0.2)
    weights = [torch.nn.Parameter(torch.zeros(2)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": weights[0], "lr": 0.2}, {"params": weights[1], "lr": 0.002}])
    schedule = Schedule(optimizer, cfg, 100)
    for accuracy in (0.5, 0.4, 0.4):
        schedule.evaluated(accuracy)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.06, 0.0006])


def test_a_longer_run_follows_its_own_curve_from_its_first_update_on() -> None:
    cfg = tiny.make_config(scheduler={"name": "cosine", "warmup_steps": 0, "floor": 0.0}, lr=0.2)
    first = build_optimizer(small_model(), cfg)
    ended = Schedule(first, cfg, 4)
    for _ in range(4):
        first.step()
        ended.step()
    assert first.param_groups[0]["lr"] == pytest.approx(0)
    second = build_optimizer(small_model(), cfg)
    longer = Schedule(second, cfg, 8)
    second.load_state_dict(first.state_dict())
    longer.load_state_dict(ended.state_dict())
    assert second.param_groups[0]["lr"] == pytest.approx(0.1)  # half way down


@pytest.mark.parametrize(
    "scheduler",
    [
        {"name": "cosine", "warmup_steps": 3, "floor": 0.0},
        {"name": "plateau", "factor": 0.5, "patience": 0, "floor": 0.0},
    ],
    ids=lambda scheduler: scheduler["name"],
)
def test_schedule_goes_on_from_its_state(scheduler: dict[str, Any]) -> None:
    cfg = tiny.make_config(scheduler=scheduler, lr=0.2)

    def advance(optimizer: Any, schedule: Schedule, start: int, steps: int) -> list[float]:
        seen = []
        for step in range(start, start + steps):
            optimizer.step()
            schedule.step()
            schedule.evaluated([0.3, 0.2, 0.5, 0.4, 0.4, 0.6][step])
            seen.append(optimizer.param_groups[0]["lr"])
        return seen

    whole = build_optimizer(small_model(), cfg)
    wanted = advance(whole, Schedule(whole, cfg, 6), 0, 6)
    first = build_optimizer(small_model(), cfg)
    schedule = Schedule(first, cfg, 6)
    advance(first, schedule, 0, 3)
    second = build_optimizer(small_model(), cfg)
    resumed = Schedule(second, cfg, 6)
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(schedule.state_dict())
    assert advance(second, resumed, 3, 3) == wanted[3:]
