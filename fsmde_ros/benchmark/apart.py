"""What is measured, in a process of its own: no memory, threads or settings of another program in it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

Made = TypeVar("Made")
Answer = TypeVar("Answer")

_made: list[object] = []  # in the process: the one object that it was started for


class Apart(Generic[Made]):
    """An object in another process; ``ask`` a question of it."""

    def __init__(self, process: ProcessPoolExecutor) -> None:
        self._process = process

    def ask(self, question: Callable[[Made], Answer]) -> Answer:
        """What ``question``, a function of a module or a method of the class, says of the object there."""
        return self._process.submit(_answer, question).result()


@contextmanager
def apart(make: Callable[..., Made], *arguments: object) -> Iterator[Apart[Made]]:
    """``make(*arguments)`` in a process of its own, which lasts until the context is left.

    ``make`` is a function of a module; what it raises is raised here.
    """
    spawn = multiprocessing.get_context("spawn")  # a fork of a process that has run torch's threads can hang
    with ProcessPoolExecutor(1, spawn) as process:
        process.submit(_make, make, arguments).result()
        yield Apart(process)


def _make(make: Callable[..., object], arguments: tuple[object, ...]) -> None:
    _made.append(make(*arguments))


def _answer(question: Callable[[Made], Answer]) -> Answer:
    return question(_made[0])  # type: ignore[arg-type]
