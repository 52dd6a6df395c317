"""The commands that turn recorded drives into bags, and a bag's calibration into a rig file.

Each is also ``python -m fsmde_ros.sources.convert COMMAND ...``. Exit status: 0 done, 2 cannot be
done, 130 interrupted; the reason is then on stderr and nothing half-written is left.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from shlex import quote

from fsmde_ros.errors import FsmdeError, SourceError
from fsmde_ros.interruption import INTERRUPTED, end_on_signals
from fsmde_ros.option_types import finite
from fsmde_ros.rig import VEHICLE_FRAME
from fsmde_ros.rig_file import write_rig
from fsmde_ros.sources import ddad
from fsmde_ros.sources.bag import read_rig_of_bag
from fsmde_ros.sources.bag_file import open_bag
from fsmde_ros.sources.bag_rig import find_cameras, node_topics
from fsmde_ros.sources.bag_writer import Written, check_target, write_bag
from fsmde_ros.sources.nuscenes import NuScenesDrives
from fsmde_ros.sweep import Sweep

SHOW_S = 1.0  # between two lines of progress
SHOWN_SCENES = 10

Range = tuple[int | None, int | None]


def nuscenes_to_bag(argv: Sequence[str] | None = None) -> int:
    """Entry point: a scene or a range of samples of a nuScenes dataset to a bag."""
    parser = argparse.ArgumentParser(
        prog="nuscenes_to_bag", description="Convert a scene of a nuScenes dataset to a rosbag2 MCAP bag."
    )
    parser.add_argument("dataroot", type=Path, help="folder with samples, sweeps and the tables v1.0-*")
    parser.add_argument("out", type=Path, help="folder of the new bag")
    parser.add_argument("--version", help="folder of the tables, such as v1.0-mini; needed where there are several")
    _add_selection(parser, "keyframes, as in a slice (start:stop)")
    parser.add_argument("--keyframes-only", action="store_true", help="leave out the 12 Hz frames between keyframes")
    return _run(lambda: _convert_nuscenes(parser.parse_args(argv)))


def ddad_to_bag(argv: Sequence[str] | None = None) -> int:
    """Entry point: a scene of a DDAD dataset to a bag."""
    parser = argparse.ArgumentParser(
        prog="ddad_to_bag", description="Convert a scene of a DDAD (DGP v1) dataset to a rosbag2 MCAP bag."
    )
    parser.add_argument("root", type=Path, help="ddad.json, or its folder, or the JSON file of one scene")
    parser.add_argument("out", type=Path, help="folder of the new bag")
    parser.add_argument("--split", choices=sorted(ddad.SPLITS), help="only this split")
    _add_selection(parser, "samples, as in a slice (start:stop)")
    return _run(lambda: _convert_ddad(parser.parse_args(argv)))


def rig_from_bag(argv: Sequence[str] | None = None) -> int:
    """Entry point: the rig file of a bag, from /tf_static and every topic ending in /camera_info."""
    parser = argparse.ArgumentParser(
        prog="rig_from_bag", description="Write the rig file of a rosbag2 bag from its /tf_static and CameraInfo."
    )
    parser.add_argument("bag", type=Path, help="folder of the bag, or its .mcap or .db3 file")
    parser.add_argument("out", type=Path, help="rig file to write (YAML)")
    parser.add_argument(
        "--cameras", nargs="+", default=[], metavar="NAME", help="only these: front of /front/camera_info"
    )
    parser.add_argument("--vehicle-frame", default=VEHICLE_FRAME, help="frame of the vehicle (default: %(default)s)")
    parser.add_argument(
        "--ground-z",
        type=finite,
        default=0.0,
        help="height of the road in the vehicle frame, m (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the file if it is there")
    return _run(lambda: _write_rig(parser.parse_args(argv)))


COMMANDS = {command.__name__: command for command in (nuscenes_to_bag, ddad_to_bag, rig_from_bag)}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the module: the name of a command, then its arguments."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    parser = argparse.ArgumentParser(prog="python -m fsmde_ros.sources.convert", description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    command = parser.parse_args(arguments[:1]).command
    return COMMANDS[command](arguments[1:])


def _add_selection(parser: argparse.ArgumentParser, samples: str) -> None:
    parser.add_argument("--scene", help="name of the scene; needed where there are several")
    parser.add_argument("--samples", type=_range, metavar="A:B", help=f"only these {samples}")
    parser.add_argument("--overwrite", action="store_true", help="replace the bag if it is there")


def _range(text: str) -> Range:
    start, colon, stop = text.partition(":")
    try:
        chosen = (int(start) if start else None, int(stop) if stop else None)
    except ValueError:
        chosen, colon = (None, None), ""
    if not colon:
        raise argparse.ArgumentTypeError(f"'{text}' is no range, expected start:stop such as 0:20, 5: or :8")
    return chosen


def _run(command: Callable[[], None]) -> int:
    end_on_signals()
    try:
        command()
    except FsmdeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED
    return 0


def _convert_nuscenes(options: argparse.Namespace) -> None:
    check_target(options.out, options.overwrite)
    print(f"reading the tables of {options.dataroot}", flush=True)
    drives = NuScenesDrives(options.dataroot, options.version)
    keyframes = drives.keyframes(options.scene, options.samples)
    _check_one_scene(options.dataroot, drives.scene_names(keyframes))
    sweeps: Iterable[Sweep]
    if options.keyframes_only:
        sweeps, total = map(drives.sweep, keyframes), len(keyframes)
    else:
        sweeps, total = drives.all_frames(keyframes), drives.count_frames(keyframes)
    _report(options.out, write_bag(options.out, sweeps, options.overwrite, _progress(total)))


def _convert_ddad(options: argparse.Namespace) -> None:
    check_target(options.out, options.overwrite)
    if options.scene is None:
        _check_one_scene(options.root, ddad.scene_names(options.root, options.split))
    scene = next(ddad.scenes(options.root, options.split, options.scene))
    total = len(scene.samples[slice(*(options.samples or (None, None)))])
    sweeps = ddad.sweeps(options.root, options.split, options.scene, options.samples)
    _report(options.out, write_bag(options.out, sweeps, options.overwrite, _progress(total)))


def _write_rig(options: argparse.Namespace) -> None:
    if options.out.exists() and not options.overwrite:
        raise SourceError(f"{options.out}: exists already; choose another name, or --overwrite")
    rig, lidars = read_rig_of_bag(options.bag, options.vehicle_frame, options.ground_z, options.cameras)
    hint = _how_to_start(options.bag, rig.names, options.out)
    write_rig(rig, options.out, lidars)
    print(f"{options.out}: {len(rig)} cameras ({', '.join(rig.names)}), LiDAR: {', '.join(lidars) or 'none'}")
    print(hint)


def _how_to_start(bag_path: Path, cameras: Sequence[str], rig_file: Path) -> str:
    """What the node needs to be told to take the images of the bag."""
    with open_bag(bag_path) as bag:
        topics = node_topics(bag, cameras)
        found = find_cameras(bag)
        images = ", ".join(found[name].image or "no images" for name in topics.left)
    if not topics.left:
        parameters = [f"-p {quote(argument)}" for argument in (f"rig_file:={rig_file}", *topics.form.changes())]
        renamed = [f"-r {quote(f'{ours}:={theirs}')}" for ours, theirs in topics.renamed.items()]
        return f"start the node with: --ros-args {' '.join([*parameters, *renamed])}"
    taken = [name for name in cameras if name not in topics.left]
    if not taken:
        return f"the node has nothing to take: of {', '.join(topics.left)} the bag has {images}"
    return (
        f"the node takes images of one kind, {topics.form.topic} of {', '.join(taken)}; of {', '.join(topics.left)} "
        f"the bag has {images}. Publish all alike, or leave cameras out: rig_from_bag with --cameras {' '.join(taken)}"
    )


def _check_one_scene(root: Path, scenes: Sequence[str]) -> None:
    if len(scenes) > 1:
        shown = ", ".join(scenes[:SHOWN_SCENES]) + (", ..." if len(scenes) > SHOWN_SCENES else "")
        raise SourceError(f"{root}: {len(scenes)} scenes, a bag has one; choose it with --scene: {shown}")


def _progress(total: int) -> Callable[[int], None]:
    shown = time.monotonic()

    def show(done: int) -> None:
        nonlocal shown
        if time.monotonic() - shown >= SHOW_S:
            shown = time.monotonic()
            print(f"{done} of {total} sweeps", flush=True)

    return show


def _report(out: Path, written: Written) -> None:
    print(f"{out}: {written.sweeps} sweeps, {written.images} images, {written.scans} scans, {written.poses} poses")


if __name__ == "__main__":
    sys.exit(main())
