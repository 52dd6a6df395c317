"""Drives by name: ``nuscenes:PATH``, ``ddad:PATH``, ``bag:PATH`` and ``town:SEED``, all as sweeps that are
read when they are asked for.

Options follow the place, each ``,name=value``:

    nuscenes:/data/nuscenes,version=v1.0-trainval,split=val
    nuscenes:/data/nuscenes,lidar_sweeps=10         the points of ten turns of the LiDAR, see accumulated_lidar
    nuscenes:/data/nuscenes,tokens=val.txt          a sample token at the beginning of each line, as SurroundDepth's
    ddad:/data/ddad,split=train,scenes=0:10         ten scenes
    bag:/data/drive,rig=rig.yaml,every=4            every fourth sweep
    town:7,seconds=5,size=192x320
    town:7,unevenness=0.05                          verges, bumps and dips of up to so much rise per metre
    town:7,rig=ddad                                 the cameras and the LiDAR of DDAD, to 200 m
    town:7,rig=random,size=360x480                  three to eight cameras of 4:3, as on another car
    town:7,rig=unusual                              one to eight cameras as on robots, machines and lorries
    town:7,rough=1                                  ragged leaves of any grain, worn lawns, more beside the road
    town:7,grain=2                                  textures twice as large
    town:7,style=painted                            pictures as no student was taught, see training/styles.py
    town:7,wide=1                                   wide roads, houses and woods far back, towers behind them
    town:7,haze=0.0002                              air of so much haze per metre: a clear day; 0.004 is fog

Of all kinds: ``samples=A:B`` (a slice of the sweeps chosen so far), ``every=N``, and ``min_depth`` and
``max_depth``, the range in metres that a LiDAR point must lie in to count in an evaluation, and, where they are given,
in a training.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

from fsmde_ros.errors import ConfigError, SourceError
from fsmde_ros.rig import VEHICLE_FRAME
from fsmde_ros.rig_file import read_lidars, read_rig
from fsmde_ros.sources import ddad
from fsmde_ros.sources.bag import BagDrive
from fsmde_ros.sources.nuscenes import NuScenesDrives, Row
from fsmde_ros.sweep import Sweep
from training.styles import STYLES, in_style
from training.town.drive import ddad_drive, nuscenes_drive, random_drive, unusual_drive
from training.town.settings import TownSettings

EXAMPLES = "nuscenes:PATH, ddad:PATH, bag:PATH or town:SEED"
OPTIONS = {
    "nuscenes": ("version", "split", "scenes", "tokens", "lidar_sweeps"),
    "ddad": ("split", "scenes"),
    "bag": ("rig", "vehicle_frame", "lidar", "anchor"),
    "town": ("seconds", "rate", "size", "unevenness", "rough", "haze", "grain", "wide", "style", "rig"),
}
COMMON_OPTIONS = ("samples", "every", "min_depth", "max_depth")
MAX_DEPTH = {"nuscenes": 80.0, "ddad": 200.0, "bag": 80.0, "town": 80.0}  # metres, of the public protocols
MIN_DEPTH = 0.1
READ_TABLES = ("sample", "sample_data", "scene", "sensor", "calibrated_sensor", "ego_pose")  # of nuScenes
TOWN_RIGS = {"nuscenes": nuscenes_drive, "ddad": ddad_drive, "random": random_drive, "unusual": unusual_drive}

Slice = tuple[int | None, int | None]


@dataclass(frozen=True)
class DataName:
    """A drive's name taken apart: ``kind:place,option=value``."""

    kind: str
    place: str
    options: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind}:{self.place}" + "".join(f",{name}={value}" for name, value in self.options.items())

    def without(self, option: str) -> DataName:
        """The same without one of its options."""
        return replace(self, options={name: value for name, value in self.options.items() if name != option})

    def number(self, option: str, default: float, lowest: float) -> float:
        """Value of an option that is a number; ConfigError where it is none or below ``lowest``."""
        text = self.options.get(option)
        try:
            value = default if text is None else float(text)
        except ValueError:
            value = float("nan")
        if not lowest <= value < float("inf"):
            raise ConfigError(f"{self}: {option} must be a number of at least {lowest:g}, got '{text}'")
        return value

    def whole_number(self, option: str, default: int, lowest: int) -> int:
        """Value of an option that is a whole number; ConfigError where it is none or below ``lowest``."""
        value = self.number(option, default, lowest)
        if value % 1:
            raise ConfigError(f"{self}: {option} must be a whole number, got '{self.options[option]}'")
        return int(value)

    def slice(self, option: str) -> Slice:
        """Value of an option that is a range A:B, with whatever Python's slices allow."""
        text = self.options.get(option, ":")
        found = re.fullmatch(r"(-?\d+)?:(-?\d+)?", text)
        if found is None:
            raise ConfigError(f"{self}: {option} must be a range such as 0:20, 5: or :8, got '{text}'")
        start, stop = (int(end) if end is not None else None for end in found.groups())
        return start, stop


class LazySweeps(Sequence[Sweep]):
    """Sweeps that are read when they are asked for; a slice of them reads nothing."""

    def __init__(
        self,
        items: Sequence[Any],
        read: Callable[[Any], Sweep],
        key: Callable[[Any], Hashable] | None = None,
        before: Callable[[Any], Sequence[Any]] | None = None,
    ) -> None:
        """``items`` stand for the sweeps, ``read`` makes the sweep of an item, ``key`` tells it from others of its
        drive, whichever are chosen; none: the item does. ``before`` gives the items of its drive before it, the latest
        first, whichever are chosen; none: nobody knows of any."""
        self._items = items
        self._read = read
        self._key = key
        self._before = before

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """What tells each sweep from the others of its drive; reads nothing."""
        return tuple(item if self._key is None else self._key(item) for item in self._items)

    def before(self, index: int) -> LazySweeps:
        """The sweeps of its drive before sweep ``index``, the latest first, also those that were not chosen; reads
        nothing."""
        return self._of(() if self._before is None else self._before(self._items[index]))

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> Sweep: ...
    @overload
    def __getitem__(self, index: slice) -> LazySweeps: ...
    def __getitem__(self, index: int | slice) -> Sweep | LazySweeps:
        if isinstance(index, slice):
            return self._of(self._items[index])
        return self._read(self._items[index])

    def __iter__(self) -> Iterator[Sweep]:
        return (self._read(item) for item in self._items)

    def _of(self, items: Sequence[Any]) -> LazySweeps:
        return LazySweeps(items, self._read, self._key, self._before)


@dataclass(frozen=True, eq=False)
class DataSource:
    """Sweeps that can be asked for in any order, by one thread or several.

    Attributes:
        name: what was opened.
        sweeps: at least one.
        min_depth: metres; nearer LiDAR points do not count in an evaluation.
        max_depth: metres; likewise farther ones.
        files: what decides which sweeps there are, and where their sensors are: tables, scenes, calibrations, the bag,
            a list, a rig file. Images and scans are not among them.
        keys: of each sweep what tells it from the others of its drive, whichever of them are chosen.
    """

    name: DataName
    sweeps: Sequence[Sweep]
    min_depth: float
    max_depth: float
    files: tuple[Path, ...] = ()
    keys: tuple[Hashable, ...] = ()

    def before(self, index: int) -> LazySweeps:
        """The sweeps before sweep ``index`` of the same drive or scene, the latest first, each read when it is asked
        for: also those that ``samples``, ``every`` or a list of tokens leave out. None are known where ``sweeps`` were
        replaced by others than a slice of them."""
        if isinstance(self.sweeps, LazySweeps):
            return self.sweeps.before(index)
        return LazySweeps((), self.sweeps.__getitem__)


def parse_name(text: str) -> DataName:
    """Take a drive's name apart. Raises ConfigError where it has no kind or place."""
    kind, colon, rest = text.partition(":")
    place, *options = re.split(r",(?=[a-z_]+=)", rest)
    if not colon or kind not in OPTIONS or not place:
        raise ConfigError(f"'{text}' names no data, expected {EXAMPLES}, with options such as ,split=val")
    pairs = [option.partition("=")[::2] for option in options]
    return DataName(kind, place, dict(pairs))


def open_data(data: str | DataName) -> DataSource:
    """Open a drive by its name; see the top of this module.

    Raises:
        ConfigError: the name cannot be understood, or has an option that its kind does not have.
        SourceError, RigError: there is nothing at its place, it is damaged, or nothing is chosen.
    """
    name = parse_name(data) if isinstance(data, str) else data
    known = (*OPTIONS[name.kind], *COMMON_OPTIONS)
    unknown = [option for option in name.options if option not in known]
    if unknown:
        raise ConfigError(f"{name}: no option '{unknown[0]}', {name.kind} has {', '.join(known)}")
    opener = {"nuscenes": _open_nuscenes, "ddad": _open_ddad, "bag": _open_bag, "town": _open_town}[name.kind]
    sweeps, files = opener(name)
    chosen = sweeps[slice(*name.slice("samples"))][:: name.whole_number("every", 1, lowest=1)]
    if not len(chosen):
        raise SourceError(f"{name}: no sweep is left of {len(sweeps)}; choose another range of samples")
    low = name.number("min_depth", MIN_DEPTH, lowest=0.0)
    high = name.number("max_depth", MAX_DEPTH[_protocol(name)], lowest=0.0)
    if low >= high:
        raise ConfigError(f"{name}: max_depth must be above min_depth, got {high:g} and {low:g} m")
    return DataSource(name, chosen, min_depth=low, max_depth=high, files=files, keys=chosen.keys)


def _protocol(name: DataName) -> str:
    """Whose range counts: a town with the sensors of DDAD is seen as far as DDAD."""
    return "ddad" if name.kind == "town" and name.options.get("rig") == "ddad" else name.kind


def _open_nuscenes(name: DataName) -> tuple[LazySweeps, tuple[Path, ...]]:
    drives = NuScenesDrives(name.place, name.options.get("version"))
    turns = name.whole_number("lidar_sweeps", 1, lowest=1)
    tables = (*READ_TABLES, *(["sample_annotation"] if turns > 1 else []))
    files = [drives.tables / f"{table}.json" for table in tables]
    if "tokens" in name.options:
        if {"split", "scenes"} & name.options.keys():
            raise ConfigError(f"{name}: give either tokens, or split and scenes")
        files.append(Path(name.options["tokens"]))
        rows: list[Row] = [drives.keyframe(token) for token in _read_tokens(files[-1])]
    else:
        rows = [row for scene in _scenes(name, _split_scenes(name, drives)) for row in drives.keyframes(scene)]
    sweeps = LazySweeps(
        rows,
        lambda row: drives.sweep(row, turns),
        key=lambda row: row["token"],
        before=lambda row: _keyframes_before(drives, row),
    )
    return sweeps, tuple(files)


def _keyframes_before(drives: NuScenesDrives, row: Row) -> list[Row]:
    """Keyframes of a scene before one, the latest first, as far as the tables know them."""
    found: list[Row] = []
    seen, token = {row["token"], ""}, row.get("prev", "")
    while token not in seen:  # damaged tables may run in a circle
        seen.add(token)
        try:
            found.append(drives.keyframe(token))
        except SourceError:  # tables of a part of the dataset
            break
        token = found[-1].get("prev", "")
    return found


def _split_scenes(name: DataName, drives: NuScenesDrives) -> Sequence[str]:
    """Scenes of the dataset that an official split of nuScenes has, in the order of the table."""
    split = name.options.get("split")
    if split is None:
        return drives.scenes
    from nuscenes.utils.splits import create_splits_scenes  # takes seconds, and only nuScenes needs it

    splits = create_splits_scenes()
    if split not in splits:
        raise ConfigError(f"{name}: no split '{split}', nuScenes has {', '.join(splits)}")
    found = [scene for scene in drives.scenes if scene in set(splits[split])]
    if not found:
        raise SourceError(
            f"{name}: {drives.tables} has no scene of the split {split}; it has {_shortened(drives.scenes)}. Choose "
            "another split or version"
        )
    return found


def _open_ddad(name: DataName) -> tuple[LazySweeps, tuple[Path, ...]]:
    place, split = Path(name.place), name.options.get("split")
    samples: list[tuple[ddad.Scene, int]] = []
    files = set(place.glob("*.json")) if place.is_dir() else {place}
    for chosen in _scenes(name, ddad.scene_names(place, split)):
        for scene in ddad.scenes(place, split, chosen):
            samples += [(scene, index) for index in range(len(scene.samples))]
            files |= set(scene.files)
    sweeps = LazySweeps(
        samples,
        lambda sample: sample[0].samples[sample[1]](),
        key=lambda sample: (sample[0].name, sample[1]),
        before=lambda sample: [(sample[0], index) for index in _indices_before(sample[1])],
    )
    return sweeps, tuple(sorted(files))


def _open_bag(name: DataName) -> tuple[LazySweeps, tuple[Path, ...]]:
    place = Path(name.place)
    files = sorted(path for path in place.iterdir() if path.is_file()) if place.is_dir() else [place]
    rig_file = name.options.get("rig")
    drive = BagDrive(
        place,
        rig=None if rig_file is None else read_rig(rig_file),
        lidars=None if rig_file is None else read_lidars(rig_file),
        vehicle_frame=name.options.get("vehicle_frame", VEHICLE_FRAME),
        lidar_topic=name.options.get("lidar", ""),
        anchor=name.options.get("anchor", ""),
    )
    sweeps = LazySweeps(range(len(drive)), drive.__getitem__, before=_indices_before)
    return sweeps, (*files, *([Path(rig_file)] if rig_file else []))


def _open_town(name: DataName) -> tuple[LazySweeps, tuple[Path, ...]]:
    """A drive through the town kept for evaluation: ten seconds, two sweeps a second."""
    if not name.place.isdecimal():
        raise ConfigError(f"'{name}': town takes the number of a seed, such as town:7")
    size = re.fullmatch(r"(\d+)x(\d+)", name.options.get("size", "360x640"))
    if size is None:
        raise ConfigError(f"{name}: size must be HEIGHTxWIDTH such as 360x640, got '{name.options['size']}'")
    rise, rough = name.number("unevenness", 0.0, lowest=0.0), name.number("rough", 0.0, lowest=0.0)
    town, haze = TownSettings.held_out(), name.number("haze", 0.0, lowest=0.0)
    air = (haze, haze) if "haze" in name.options else town.haze
    grain, wide = name.number("grain", 1.0, lowest=0.01), name.number("wide", 0.0, lowest=0.0)
    skyline = TownSettings().skyline if wide > 0 else town.skyline
    make = TOWN_RIGS.get(name.options.get("rig", "nuscenes"))
    if make is None:
        raise ConfigError(f"{name}: rig must be one of {', '.join(TOWN_RIGS)}, got '{name.options['rig']}'")
    style = name.options.get("style")
    if style is not None and style not in STYLES:
        raise ConfigError(f"{name}: style must be one of {', '.join(STYLES)}, got '{style}'")
    drive = make(
        int(name.place),
        (int(size[1]), int(size[2])),
        replace(
            town,
            unevenness=(rise, rise),
            rough_probability=rough,
            haze=air,
            grain=(grain, grain),
            wide_probability=wide,
            skyline=skyline,
        ),
        duration_s=name.number("seconds", 10.0, lowest=0.1),
        camera_rate_hz=name.number("rate", 2.0, lowest=0.1),
    )
    read = drive.sweep if style is None else lambda index: in_style(drive.sweep(index), STYLES[style])
    return LazySweeps(range(len(drive)), read, before=_indices_before), ()


def _indices_before(index: int) -> range:
    return range(index - 1, -1, -1)


def _scenes(name: DataName, scenes: Sequence[str]) -> Sequence[str]:
    """The scenes of option ``scenes``: names joined by +, or a range of the scenes that there are."""
    wanted = name.options.get("scenes")
    if wanted is None:
        return scenes
    if ":" in wanted:
        chosen: Sequence[str] = scenes[slice(*name.slice("scenes"))]
        missing = "" if chosen else wanted
    else:
        chosen = wanted.split("+")
        missing = next((scene for scene in chosen if scene not in scenes), "")
    if missing:
        raise SourceError(f"{name}: no scene '{missing}'; there are {len(scenes)}: {_shortened(scenes)}")
    return chosen


def _read_tokens(path: Path) -> list[str]:
    """First word of each line that has one."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: the list of sample tokens cannot be read: {error}") from error
    tokens = [line.split()[0] for line in lines if line.split()]
    if not tokens:
        raise SourceError(f"{path}: has no sample tokens, expected one at the beginning of each line")
    return tokens


def _shortened(names: Sequence[str], shown: int = 8) -> str:
    return ", ".join(names[:shown]) + (", ..." if len(names) > shown else "")
