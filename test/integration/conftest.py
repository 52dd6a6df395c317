from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from demo.drives import DriveBag, DriveName, TownSize, prepare
from demo.replay import RunOptions, run
from fsmde_ros.checkpoint import default_checkpoint, save_checkpoint
from fsmde_ros.model_card import ModelCard
from fsmde_ros.network.student import Student, StudentConfig
from fsmde_ros.replay_settings import environment
from fsmde_ros.rig import Rig
from fsmde_ros.rig_file import read_rig
from fsmde_ros.sources.bag_file import open_bag

SHARED_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TOWN = TownSize(image=(108, 192), duration=0.5, workers=2)


@dataclass(frozen=True)
class Replayed:
    """What a run left: the drive that was played, the report and the recorded messages by topic."""

    drive: DriveBag
    rig: Rig
    out: Path
    report: dict[str, Any]
    recorded: dict[str, list[Any]]


def recorded_by_topic(bag: Path) -> dict[str, list[Any]]:
    with open_bag(bag) as file:
        found: dict[str, list[Any]] = {topic: [] for topic in file.types}
        for topic, data in file.messages(found):
            found[topic].append(file.decode(topic, data))
    return found


def processes_of_domain() -> list[str]:
    """Command lines of processes, but this one, in the DDS domain that this process's runs use."""
    domain = f"ROS_DOMAIN_ID={environment()['ROS_DOMAIN_ID']}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if domain in variables and "fsmde_ros" in command:
            found.append(command)
    return found


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    yield
    assert not processes_of_domain()


@pytest.fixture(scope="session")
def town(tmp_path_factory: pytest.TempPathFactory) -> DriveBag:
    """A few sweeps of a town nobody trained on, as a bag."""
    folder = tmp_path_factory.mktemp("town")
    return prepare(DriveName.parse("town:held-out"), TOWN, folder / "cache", folder / "out")


@pytest.fixture(scope="session")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint with random weights, for everything but the quality of the depth."""
    path = tmp_path_factory.mktemp("checkpoint") / "untrained.safetensors"
    torch.manual_seed(1)
    config = StudentConfig(bins=16)
    card = ModelCard("untrained", config, (64, 96), "none", "none", "Apache-2.0")
    save_checkpoint(path, Student(config).eval(), card)
    return path


@pytest.fixture(scope="session")
def shipped() -> Path:
    path = default_checkpoint()
    if not path.is_file():
        pytest.skip(f"no checkpoint is shipped yet: {path.name}")
    return path


@pytest.fixture(scope="session")
def replay(tmp_path_factory: pytest.TempPathFactory) -> Callable[[DriveBag, Path], Replayed]:
    """Play a drive through node, recorder and evaluator, each a process."""

    def play(drive: DriveBag, checkpoint: Path, pace: str = "node") -> Replayed:
        out = tmp_path_factory.mktemp("run")
        rig = read_rig(drive.rig)
        run(drive, rig, RunOptions(checkpoint, device="cpu", pace=pace), out)
        report = json.loads((out / "report.json").read_text())
        return Replayed(drive, rig, out, report, recorded_by_topic(out / "output_bag"))

    return play


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    def find(name: str) -> Path:
        folder = SHARED_DATA / name
        if not folder.is_dir():
            pytest.skip(f"no ../shared/data/{name} beside the checkout")
        return folder

    return find
