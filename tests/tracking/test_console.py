"""What a person sees: a bar and a table on a terminal, plain whole lines elsewhere."""

import io
import logging
from pathlib import Path

import matplotlib.image
import pytest
import torch
from rich.console import Console
from torch import nn

from src.tracking.console import Display
from src.tracking.curves import draw_curves
from src.tracking.tables import model_table

LINE = "epoch 1/2  step 10  " + "val loss 0.1234 " * 12
METRICS = {"train/steps_per_second": 10.0, "train/loss": 0.5, "train/grad_norm": 1.25}


def shown(tmp_path: Path, terminal: bool, progress: bool = True) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
    display = Display(tmp_path / "train.log", progress, console)
    try:
        with display.bar(0, 20, 2):
            for step in range(1, 21):
                display.due_at = 0.0
                display.advance(step, 1)
            display.show(METRICS)
            logging.getLogger("src.training").info(LINE)
            logging.getLogger("src.training").warning("beware")
    finally:
        display.close()
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_without_a_terminal_there_are_whole_lines_and_nothing_else(tmp_path: Path) -> None:
    assert shown(tmp_path, terminal=False) == f"{LINE}\nwarning: beware\n"


def test_terminal_gets_bar_rate_loss_norm_and_time_left(tmp_path: Path) -> None:
    text = shown(tmp_path, terminal=True)
    for part in ("epoch 1/2", "20/20", "10 steps/s", "loss 0.5000", "grad 1.25", "0:00", "beware"):
        assert part in text


def test_progress_false_shows_no_bar(tmp_path: Path) -> None:
    assert "20/20" not in shown(tmp_path, terminal=True, progress=False)


def test_log_file_has_every_line_with_its_time(tmp_path: Path) -> None:
    shown(tmp_path, terminal=True)
    lines = (tmp_path / "train.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [LINE, "warning: beware"]


def test_closed_display_hears_nothing(tmp_path: Path) -> None:
    before = list(logging.getLogger("src").handlers)
    shown(tmp_path, terminal=False)
    assert logging.getLogger("src").handlers == before


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 4)
        self.rnn = nn.GRU(4, 3)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(3, 1)

    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(self.rnn(self.embedding(ids))[0][-1]))


def test_model_table_counts_parameters_and_leaves_no_trace() -> None:
    model = Net()
    model.train()
    state = torch.get_rng_state()
    ids, lengths = torch.zeros(5, 2, dtype=torch.int64), torch.full((2,), 5)
    console = Console(file=io.StringIO(), width=100)
    console.print(model_table(model, lambda: model(ids, lengths)))
    assert isinstance(console.file, io.StringIO)
    table = " ".join(console.file.getvalue().split())
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training and model.drop.training
    total = 10 * 4 + 3 * (3 * 4 + 3 * 3 + 6) + 4
    for part in ("Embedding(10, 4) │ (5, 2, 4) │ 40", "GRU(4, 3) │ (5, 2, 3) │ 81", "(2, 1) │ 4", f"│ {total} │"):
        assert part in table
    assert not model.rnn._forward_hooks


def test_curves_are_drawn_from_the_lines_of_a_run(tmp_path: Path) -> None:
    lines = [{"step": 1, "epoch": 1, "time": 0.1, "train/loss": 1.0}, {"step": 2, "train/loss": None}]
    lines += [{"step": 2, "val/loss": 0.9, "val/accuracy": 0.5, "val/baseline": 0.5, "train_epoch/accuracy": 0.4}]
    draw_curves(lines, tmp_path / "curves.png", "val/accuracy")
    picture = matplotlib.image.imread(tmp_path / "curves.png")
    assert picture.shape[1] > picture.shape[0]  # loss and accuracy, side by side
    assert (picture[..., :3] < 0.5).any()


@pytest.mark.parametrize("lines", [[], [{"step": 1, "val/loss": None}]])
def test_curves_of_nothing_are_an_empty_picture(tmp_path: Path, lines: list[dict[str, None]]) -> None:
    draw_curves(lines, tmp_path / "curves.png", "val/accuracy")
    assert (tmp_path / "curves.png").stat().st_size > 0


def test_table_of_a_model_of_very_many_parts_is_cut_and_still_adds_up() -> None:
    model = nn.Sequential(nn.Sequential(*(nn.Linear(2, 2) for _ in range(1000))))
    console = Console(file=io.StringIO(), width=100)
    console.print(model_table(model, lambda: model(torch.ones(1, 2))))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert text.count("\n") < 120
    assert "… and 900 more" in text and "5,400" in text and "6,000" in text
