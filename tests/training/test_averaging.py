"""The average of the weights begins when it should, and is the mean that it says it is."""

import pytest
import tiny
import torch
from torch import nn

from src.errors import RequestError
from src.training.averaging import WeightAverage


def test_a_uniform_average_is_the_mean_of_all_weights_so_far() -> None:
    model = nn.Linear(3, 2).double()
    average, seen = WeightAverage(model, "uniform"), []
    for _ in range(5):
        nn.init.normal_(model.weight)
        average.update()
        seen.append(model.weight.detach().clone())
    torch.testing.assert_close(average.module.weight, torch.stack(seen).mean(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("after", [1, 2, 5])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_trigger_is_that_of_nt_asgd(after: int, mode: str) -> None:
    """Begins at the evaluation at which Merity et al.'s own condition holds first."""
    values = [9.0, 5.0, 6.0, 4.0, 4.5, 4.4, 4.3, 4.2, 5.5, 4.6, 3.0]
    signed = values if mode == "min" else [-value for value in values]
    wanted = next((k for k, v in enumerate(values) if k > after and v > min(values[:k][:-after])), None)
    average = WeightAverage(nn.Linear(1, 1), "uniform", after, mode)  # type: ignore[arg-type]
    begun = []
    for value in signed:
        average.evaluated(value)
        begun.append(average.begun)
    assert wanted is not None and begun == [k >= wanted for k in range(len(values))]


def test_an_average_that_has_not_begun_judges_nothing() -> None:
    model = nn.Linear(1, 1)
    average = WeightAverage(model, "uniform", after=1)
    average.update()
    assert not average.judges
    for value in (1.0, 2.0, 3.0):
        average.evaluated(value)
    average.update()
    assert average.judges and torch.equal(average.module.weight, model.weight)


def test_when_an_average_begins_needs_an_average(configured) -> None:
    with pytest.raises(RequestError, match=r"trainer: average_after .* needs trainer.average"):
        configured("trainer.average_after=5")
    assert tiny.make_config(trainer__average="uniform", trainer__average_after=5).trainer.average == "uniform"
