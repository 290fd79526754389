"""One function for many pieces of text, on all cores."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain, cycle, islice
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from src.errors import RunError

Item = TypeVar("Item")
Result = TypeVar("Result")

ALONE = 8
"""Items before other processes are worth their start."""


def spread(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """As ``map``, and in its order, but beyond a few items in as many processes as there are cores.

    They are forked, so that they begin at once and the function need not be pickled; they are to do nothing but compute
    (no torch, no threads). Elsewhere than on Linux, where a fork is not safe, this process does all by itself.

    Raises:
        RunError: one of the processes was killed.
    """
    rest = iter(items)
    yield from map(function, islice(rest, ALONE))
    for item in islice(rest, 1):
        count = _cores()
        found = (
            map(function, chain((item,), rest)) if count == 1 else _by_workers(function, chain((item,), rest), count)
        )
        yield from found


def _cores() -> int:
    if sys.platform != "linux" or multiprocessing.current_process().daemon:  # which may have no children
        return 1
    return len(os.sched_getaffinity(0))


def _by_workers(function: Callable[[Item], Result], items: Iterator[Item], count: int) -> Iterator[Result]:
    """Deal items out in turn, one at a time to each worker, and take the answers in the same turn."""
    with ExitStack() as stack:
        workers: list[Connection] = []
        for _ in range(count):
            workers.append(stack.enter_context(_worker(function, workers)))
        try:
            busy = 0
            for turn, (worker, item) in enumerate(zip(cycle(workers), items, strict=False)):
                if turn >= count:
                    yield _answer(worker)
                worker.send(item)
                busy = turn + 1
            for turn in range(max(busy - count, 0), busy):
                yield _answer(workers[turn % count])
        except (EOFError, ConnectionError):
            raise RunError("a process that reads the data was killed (not enough memory?)") from None


def _answer(worker: Connection) -> Any:
    found = worker.recv()
    if isinstance(found, BaseException):
        raise found
    return found


@contextmanager
def _worker(function: Callable[[Item], Result], others: list[Connection]) -> Iterator[Connection]:
    """A process that answers until its pipe is closed, which the end of this one does too, whatever ends it."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(function, theirs, [ours, *others]), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        ours.close()
        process.join()


def _work(function: Callable[[Item], Result], pipe: Connection, others: list[Connection]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it and closes the pipe
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not what the parent does
    for other in others:
        other.close()  # or no worker would see its pipe's end before the last of them
    with suppress(EOFError, ConnectionError):
        while True:
            item = pipe.recv()
            try:
                pipe.send(function(item))
            except Exception as error:
                pipe.send(error)
