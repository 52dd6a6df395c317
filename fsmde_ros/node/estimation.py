"""The estimator of the node: that of its parameters, guarded against too little memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fsmde_ros.backends.backend import Backend
from fsmde_ros.backends.memory_guard import MemoryGuard, is_out_of_memory
from fsmde_ros.estimator import Estimator
from fsmde_ros.node.parameters import Settings


def build_estimator(settings: Settings) -> Estimator:
    """Load the checkpoint and build its backend.

    Where memory runs out, now or later, fewer views are run at a time, and then, with
    ``on_out_of_memory`` cpu, PyTorch on the CPU takes over. Raises CheckpointError or BackendError.
    """
    path = settings.checkpoint or None

    def on_cpu() -> Backend:
        estimator = Estimator.from_checkpoint(path, "cpu", "torch")
        estimator.close()  # only its backend is wanted
        return estimator.backend

    try:
        estimator = Estimator.from_checkpoint(path, settings.device, settings.backend)
    except RuntimeError as error:
        if settings.on_out_of_memory != "cpu" or not is_out_of_memory(error):
            raise
        estimator = Estimator.from_checkpoint(path, "cpu", "torch")
    fallback = on_cpu if settings.on_out_of_memory == "cpu" else None
    return Estimator(MemoryGuard(estimator.backend, fallback), estimator.card)


@contextmanager
def warnings_to(tell: Callable[[str], object]) -> Iterator[None]:
    """Hand what the package warns of, which knows no ROS, to ``tell``, such as the log of the node."""

    class Teller(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            tell(record.getMessage())

    logger, teller = logging.getLogger("fsmde_ros"), Teller(logging.WARNING)
    logger.addHandler(teller)
    try:
        yield
    finally:
        logger.removeHandler(teller)


def degradation(estimator: Estimator) -> str:
    """What the estimator had to give up for want of memory; empty where nothing."""
    return estimator.backend.problem if isinstance(estimator.backend, MemoryGuard) else ""
