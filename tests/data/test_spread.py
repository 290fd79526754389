"""What other processes compute comes back in order, and none of them is left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
from made_data import WORD

import src.data.pieces
from src.data import spread as module
from src.data.spread import spread
from src.data.word import WordTokenizer
from src.errors import RunError
from src.processes import has_ended


@pytest.fixture(params=[1, 3])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "_cores", lambda: request.param)
    monkeypatch.setattr(module, "ALONE", 2)
    return request.param


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 6, 20])
def test_answers_come_in_the_order_of_the_questions(cores: int, count: int) -> None:
    pids = set()

    def answer(item: int) -> tuple[int, int]:
        return item * item, os.getpid()

    found = []
    for number, pid in spread(answer, iter(range(count))):
        found.append(number)
        pids.add(pid)
    assert found == [item * item for item in range(count)]
    assert len(pids) == min(1 + (cores > 1) * min(max(count - 2, 0), cores), max(count, 0))
    assert not multiprocessing.active_children()


def test_vocabulary_and_ids_are_those_of_one_process(cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"the {number % 7} cats sat on {number % 11} mats" for number in range(60)] + [""]
    expected = WordTokenizer.fit(texts, WORD)
    ids = [own.tolist() for own in expected.encode(texts)]
    monkeypatch.setattr(src.data.pieces, "BATCH", 7)
    found = WordTokenizer.fit(texts, WORD)
    assert found.tokens == expected.tokens
    assert [own.tolist() for own in found.encode(texts)] == ids


def test_an_error_is_raised_here_and_ends_the_workers(cores: int) -> None:
    with pytest.raises(ZeroDivisionError):
        [*spread(lambda item: 1 / (item - 5), range(20))]
    assert not multiprocessing.active_children()


def test_one_that_asks_no_more_ends_the_workers(cores: int) -> None:
    answers = spread(lambda item: item, range(100))
    assert [next(answers) for _ in range(10)] == [*range(10)]
    answers.close()  # type: ignore[attr-defined]
    assert not multiprocessing.active_children()


def test_a_killed_worker_is_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_cores", lambda: 2)
    parent = os.getpid()

    def die(item: int) -> int:
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return item

    with pytest.raises(RunError, match="a process that reads the data was killed"):
        [*spread(die, range(100))]
    assert not multiprocessing.active_children()


@pytest.mark.skipif(sys.platform != "linux", reason="there are no workers")
def test_workers_end_with_the_process_that_asks_even_when_it_is_killed() -> None:
    code = (
        "import os, time, src.data.spread as spread\n"
        "def items():\n    yield from range(14)\n    time.sleep(60)\n"
        "spread._cores = lambda: 3\n"
        "for pid in spread.spread(lambda item: os.getpid(), items()):\n    print(pid, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = {int(parent.stdout.readline()) for _ in range(11)} - {parent.pid}
        parent.kill()
    until = time.monotonic() + 20
    while time.monotonic() < until and not all(map(has_ended, workers)):
        time.sleep(0.01)
    assert workers and all(map(has_ended, workers))
