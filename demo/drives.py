"""From the name of a drive to its bag and rig file: render or find it, convert it."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fsmde_ros.errors import ConfigError, SourceError
from fsmde_ros.interruption import INTERRUPTED
from fsmde_ros.sources.convert import ddad_to_bag, nuscenes_to_bag, rig_from_bag
from training.town.__main__ import main as render_town

HELD_OUT_SEED = 7  # training draws its drives from seed 1,000,000 on
RANGES = {"town": 80.0, "nuscenes": 80.0, "ddad": 200.0}  # metres of ground truth that count


@dataclass(frozen=True)
class DriveName:
    """What the user asked for: ``town:held-out``, ``town:SEED``, ``nuscenes:PATH`` or ``ddad:PATH``."""

    kind: str
    place: str

    @staticmethod
    def parse(text: str) -> DriveName:
        """Raises ConfigError for anything else, SourceError for a folder that does not exist."""
        kind, _, place = text.partition(":")
        if kind not in RANGES or not place:
            raise ConfigError(
                f"the drive must be town:held-out, town:SEED, nuscenes:FOLDER or ddad:FOLDER, got '{text}'"
            )
        if kind == "town":
            if place != "held-out" and not place.isdecimal():
                raise ConfigError(f"a town is named by a whole number or 'held-out', got '{place}'")
        elif not Path(place).is_dir():
            raise SourceError(f"drive '{text}': no folder '{place}'; give the root folder of the data set")
        return DriveName(kind, place)

    @property
    def seed(self) -> int:
        """Seed of a town."""
        return HELD_OUT_SEED if self.place == "held-out" else int(self.place)


@dataclass(frozen=True)
class TownSize:
    """How large a rendered drive is: (H, W) of the images, seconds, and processes to render it with."""

    image: tuple[int, int] = (256, 448)
    duration: float = 10.0
    workers: int = os.cpu_count() or 1


@dataclass(frozen=True)
class DriveBag:
    """A drive, ready to be played. ``max_depth``: metres of ground truth that count."""

    bag: Path
    rig: Path
    max_depth: float


def prepare(name: DriveName, town: TownSize, cache: Path, out: Path, scene: str | None = None) -> DriveBag:
    """The bag and rig file of a drive; a town is kept in ``cache``, other drives are made in ``out``.

    ``scene``: name of the scene, where the data set has several. Raises SourceError where the drive cannot be made,
    KeyboardInterrupt where that was interrupted, ConfigError for a scene of a town.
    """
    if name.kind == "town" and scene is not None:
        raise ConfigError(f"--scene {scene}: a town has no scenes; name another seed, or a data set")
    folder = cache / _town_key(name, town) if name.kind == "town" else out / "input"
    if name.kind != "town" or not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        _make(name, town, folder, scene)
        (folder / "complete").touch()
    else:
        print(f"    taken from {folder}", flush=True)
    return DriveBag(folder / "bag", folder / "rig.yaml", RANGES[name.kind])


def _make(name: DriveName, town: TownSize, folder: Path, scene: str | None) -> None:
    dataset, bag = Path(name.place), folder / "bag"
    if name.kind == "town":
        dataset = folder / "nuscenes"
        size = f"{town.image[0]}x{town.image[1]}"
        amount = ["--size", size, "--duration", str(town.duration), "--workers", str(town.workers)]
        _run("training.town", render_town, ["--held-out", "--seed", str(name.seed), "--out", str(dataset), *amount])
    convert = ddad_to_bag if name.kind == "ddad" else nuscenes_to_bag
    _run(convert.__name__, convert, [str(dataset), str(bag), *(["--scene", scene] if scene else [])])
    _run("rig_from_bag", rig_from_bag, [str(bag), str(folder / "rig.yaml")])
    if name.kind == "town":
        shutil.rmtree(dataset)  # the bag holds it all


def _run(name: str, program: Callable[[list[str]], int], arguments: list[str]) -> None:
    """Run a command-line program of this project in this process; it has said itself what is wrong."""
    status = program(arguments)
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    if status:
        raise SourceError(f"{name} {' '.join(arguments)}: ended with status {status}, see above")


def _town_key(name: DriveName, town: TownSize) -> str:
    """Name in the cache: another renderer or converter must not be served yesterday's drive."""
    digest = hashlib.sha256()
    root = Path(__file__).resolve().parents[1]
    for file in sorted([*(root / "training/town").glob("*.py"), *(root / "fsmde_ros/sources").glob("*.py")]):
        digest.update(file.read_bytes())
    size = f"{town.image[0]}x{town.image[1]}-{town.duration:g}s"
    return f"town-{name.seed}-{size}-{digest.hexdigest()[:12]}"
