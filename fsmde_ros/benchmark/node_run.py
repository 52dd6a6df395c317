"""The whole node over DDS: a bag goes in at a fixed rate, and what comes out is counted.

Node, player and recorder are processes of their own. The recorder listens to depth and cloud, so
that they are made; the reports on ``~/sweep`` say what became of each sweep.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from fsmde_ros.benchmark.workload import encoded_sweep
from fsmde_ros.errors import BackendError
from fsmde_ros.replay_settings import environment, lossless
from fsmde_ros.rig import Rig
from fsmde_ros.rig_file import write_rig
from fsmde_ros.sources.bag_writer import write_bag
from fsmde_ros.sweep import Sweep, View
from fsmde_ros.topics import DEPTH, POINTS, SWEEP, InputForm

BAG_HZ = 12.0  # of nuScenes
START_S, STOP_S = 600.0, 20.0  # an engine of TensorRT is built for minutes
TICKS = os.sysconf("SC_CLK_TCK")
SPEED = 10.0  # m/s, so that there are earlier sweeps from about 1 and 4 m behind to compare with
LOST = 0.01  # share of sweeps that may be lost at a sustained rate


@dataclass(frozen=True)
class NodeOptions:
    """What the node is started with."""

    checkpoint: Path
    backend: str
    device: str
    views: int


def make_bag(folder: Path, views: int, seconds: float) -> tuple[Path, Path, Rig]:
    """A bag of ``views`` cameras at 12 Hz, its rig file and rig; the same pictures in every sweep of a moving car."""
    first = encoded_sweep(views)
    sweeps = (_at(first, round(1e9 + 1e9 * i / BAG_HZ)) for i in range(round(seconds * BAG_HZ)))
    bag, rig_file = folder / "bag", folder / "rig.yaml"
    write_bag(bag, sweeps, overwrite=True)
    write_rig(first.rig, rig_file)
    return bag, rig_file, first.rig


def _at(sweep: Sweep, stamp_ns: int) -> Sweep:
    vehicle_to_map = np.eye(4)
    vehicle_to_map[0, 3] = SPEED * stamp_ns * 1e-9
    views = {name: View(view.image, stamp_ns, vehicle_to_map) for name, view in sweep.views.items()}
    return Sweep(sweep.rig, stamp_ns, views)


def measure_node(options: NodeOptions, folder: Path, rates_hz: Sequence[float], seconds: float) -> list[dict[str, Any]]:
    """Play at each rate for ``seconds``, at slow ones longer; rows of rate, lost sweeps, latency, CPU and memory.

    As many sweeps as 12 Hz have in ``seconds``, at higher rates more, so that they do not fit in queues. Ascending in
    rate; stops after the first rate that loses more than 1 %. Raises BackendError where a process fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    written_s: float | None = None
    for rate in rates_hz:
        length_s = seconds * max(1.0, rate / BAG_HZ)
        if length_s != written_s:
            bag, rig_file, rig = make_bag(folder, options.views, length_s)
            written_s = length_s
        rows.append(_one_rate(options, folder, bag, rig_file, rig, rate))
        if rows[-1]["lost"] > LOST:
            break
    return rows


def _one_rate(
    options: NodeOptions, folder: Path, bag: Path, rig_file: Path, rig: Rig, rate_hz: float
) -> dict[str, Any]:
    # Over a transport that loses nothing, so that a sweep that is lost is one that the node had no time for.
    variables = {**os.environ, **environment()}
    out = folder / f"out-{rate_hz:g}"
    parameters = {
        "rig_file": rig_file,
        "checkpoint": options.checkpoint,
        "backend": options.backend,
        "device": options.device,
        "diagnostics.period_s": 0.5,
        **lossless(rig.names),
    }
    settings = [text for key, value in parameters.items() for text in ("-p", f"{key}:={value}")]
    topics = [f"/{SWEEP}", f"/{POINTS}", *(f"/{name}/{DEPTH}" for name in rig.names)]
    log = (folder / f"log-{rate_hz:g}.txt").open("w+b")
    with log, contextlib.ExitStack() as children:

        def start(module: str, *arguments: object) -> subprocess.Popen[bytes]:
            return children.enter_context(_process(module, arguments, variables, log.fileno()))

        node = start("fsmde_ros.node.surround_depth_node", "--ros-args", *settings)
        start("fsmde_ros.node.recorder", out, "--no-compression", "--topics", *topics)
        _wait_for(log.name, "complete: connected", START_S, node)
        player = ("fsmde_ros.node.player", bag, "--rate", rate_hz / BAG_HZ, "--wait-for-subscribers", START_S)
        sent = _sweeps_in(bag, rig)
        busy = _cpu_seconds(node.pid)
        try:
            status = start(*player).wait(START_S + 60 + sent / rate_hz)
        except subprocess.TimeoutExpired as error:
            raise BackendError(f"the player did not end: {_last_lines(log.name)}") from error
        busy = _cpu_seconds(node.pid) - busy
        time.sleep(1.0)
        memory = _memory_mb(node.pid)
        if status or node.poll() is not None:
            raise BackendError(f"the node or the player ended early: {_last_lines(log.name)}")
    summary = _summary(out, sent)
    shutil.rmtree(out)  # of all rates together it would be gigabytes
    return {"rate_hz": rate_hz, **summary, "cpu_cores": busy * rate_hz / sent, "memory_mb": memory}


def _summary(out: Path, sent: int) -> dict[str, Any]:
    store = get_typestore(Stores.ROS2_JAZZY)
    times: dict[str, list[float]] = {}
    with Reader(out) as reader:
        wanted = [c for c in reader.connections if c.topic == f"/{SWEEP}"]
        for connection, _, data in reader.messages(wanted):
            message: Any = store.deserialize_cdr(data, connection.msgtype)
            values = {pair.key: pair.value for pair in message.status[0].values}
            if values["state"] == "published" and not values["missing"]:
                for key in ("decode", "network", "stereo", "publish", "total"):
                    times.setdefault(key, []).append(float(values[f"{key}_ms"]))
    done = len(times.get("total", []))
    row: dict[str, Any] = {"sent": sent, "complete": done, "lost": 1 - done / sent}
    for percent in (50, 95, 99):
        row[f"latency_p{percent}_ms"] = float(np.percentile(times["total"], percent)) if done else None
    return row | {f"{key}_ms": float(np.median(values)) for key, values in times.items()}


def _sweeps_in(bag: Path, rig: Rig) -> int:
    with Reader(bag) as reader:
        return int(reader.topics[f"/{rig.names[0]}/{InputForm().topic}"].msgcount)


@contextlib.contextmanager
def _process(
    module: str, arguments: Sequence[object], variables: dict[str, str], log: int
) -> Iterator[subprocess.Popen[bytes]]:
    """``python -m module``, ended with all it started when the block is left."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    child = subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True)
    try:
        yield child
    finally:
        for number in (signal.SIGINT, signal.SIGKILL):
            if child.poll() is None:
                os.killpg(child.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    child.wait(STOP_S)


def _wait_for(log: str, text: str, timeout_s: float, node: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + timeout_s
    while text not in Path(log).read_text(errors="replace"):
        if node.poll() is not None or time.monotonic() > deadline:
            raise BackendError(f"the node did not start within {timeout_s:g} s: {_last_lines(log)}")
        time.sleep(0.1)


def _last_lines(log: str) -> str:
    """What the log, which is gone with its folder, ends with."""
    return " | ".join(Path(log).read_text(errors="replace").splitlines()[-5:])


def _cpu_seconds(pid: int) -> float:
    """Processor time of a process so far; fields 14 and 15 of proc(5) stat, counted behind the name."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _memory_mb(pid: int) -> float:
    """Resident memory, MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS"))
