"""What the command-line programs of this package share: arguments, signals, spinning.

SIGINT and SIGTERM set a flag that their loops ask. rclpy's own handlers shut the context down at
once, which loses what is still queued; a recorder and an evaluator want to take that first.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from fsmde_ros.errors import ConfigError

HANDLED = (signal.SIGINT, signal.SIGTERM)
WAIT_S = 0.1
EMPTY = 4  # waits without a message after the signal: nothing is queued any more
DRAIN_S = 10.0


def split_ros_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The program's own arguments, and those between ``--ros-args`` and ``--`` (or the end).

    ``rclpy.utilities.remove_ros_args`` would also take away every ``a:=b``, an old way to remap.
    """
    own: list[str] = []
    ros: list[str] = []
    inside = False
    for argument in arguments:
        if argument == "--ros-args":
            inside = True
        if inside and argument == "--":
            inside = False
            continue
        (ros if inside else own).append(argument)
    return own, ros


def init_ros(arguments: Sequence[str]) -> None:
    """``rclpy.init``, leaving SIGINT and SIGTERM to the program.

    Raises ConfigError where an argument, or the file that it names, cannot be read.
    """
    try:
        rclpy.init(args=[*arguments], signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # of rcl, with the place in its source behind the reason
        reason = " ".join(str(error).removeprefix("failed to initialize rcl: ").partition(", at /")[0].split())
        raise ConfigError(f"what follows --ros-args cannot be used: {reason}") from error


class StopSignal:
    """Context manager: inside it SIGINT and SIGTERM only set the flag, but the second one ends the program.

    Main thread only. Who asks twice sees something that does not come back, such as the build of an engine.
    """

    def __init__(self) -> None:
        self._received = False
        self._previous: dict[signal.Signals, object] = {}

    def __enter__(self) -> StopSignal:
        for number in HANDLED:
            self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]  # what signal.signal gave us

    def __bool__(self) -> bool:
        """Whether one of the signals came."""
        return self._received

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self._received:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        self._received = True


def spin_until_stopped(
    node: Node, stop: StopSignal, messages: Callable[[], int], idle_timeout: float | None = None
) -> None:
    """Serve the node until ``stop``, then until what is queued has been taken (at most 10 s).

    ``messages`` counts the messages taken so far. With ``idle_timeout`` (seconds) it also ends when
    none came for that long after the first. What is queued is told by asking for it in vain, not by
    the clock: a process that the machine held up for a second has not looked yet.
    """
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        count, changed, stopped, empty = messages(), time.monotonic(), None, 0
        while True:
            begun = time.monotonic()
            executor.spin_once(timeout_sec=WAIT_S)
            now = time.monotonic()
            if messages() != count:
                count, changed, empty = messages(), now, 0
            elif now - begun >= WAIT_S:
                empty += 1
            if stop and stopped is None:
                stopped, empty = now, 0
            if stopped is not None and (empty >= EMPTY or now - stopped > DRAIN_S):
                return
            if idle_timeout is not None and count and empty >= EMPTY and now - changed > idle_timeout:
                return
    finally:
        executor.shutdown()
