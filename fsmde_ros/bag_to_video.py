"""``bag_to_video``: a recorded drive with its depth as a video or a recording, or one sweep as a picture.

bag_to_video drive_with_depth out.mp4 --rig rig.yaml
bag_to_video depth_only out.mp4 --rig rig.yaml --images drive      the images are in another bag
bag_to_video drive_with_depth out.png --rig rig.yaml               the sweep in the middle
bag_to_video drive_with_depth out.rrd --rig rig.yaml               for the viewer Rerun, in 3D

It needs no ROS and no screen. Record with ``ros2 bag record`` the images, ``<camera>/depth/image_rect``
and ``/surround_depth/points``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from itertools import chain, islice
from pathlib import Path

import cv2
import numpy as np

from fsmde_ros.errors import ConfigError, FsmdeError, SourceError
from fsmde_ros.images import resize
from fsmde_ros.interruption import INTERRUPTED, end_on_signals
from fsmde_ros.option_types import above_0, whole
from fsmde_ros.picture import Snapshot, compose, draw
from fsmde_ros.rerun_recording import write_recording
from fsmde_ros.rig import Rig
from fsmde_ros.rig_file import read_rig
from fsmde_ros.sources.bag_file import open_bag
from fsmde_ros.sources.recorded_depth import image_topics, middle_of_fullest, snapshots
from fsmde_ros.topics import POINTS, InputForm, full_name

SUFFIXES = (".mp4", ".avi", ".png", ".rrd")
CODECS = {".mp4": "mp4v", ".avi": "MJPG"}
WIDTH = 1600  # pixels
MIN_WIDTH, MAX_WIDTH, MAX_FPS = 64, 16_384, 1000
LOOK_AHEAD = 10  # sweeps from whose stamps the speed of the video is taken


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit status: 0 written, 2 cannot be done, 130 interrupted."""
    options = _parser().parse_args(argv)
    end_on_signals()  # else SIGTERM would leave a video without its index
    try:
        made = make(options)
    except FsmdeError as error:
        print(f"bag_to_video: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"bag_to_video: {options.out}: cannot be written: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        ends = f"{options.out} ends there" if options.out.exists() else "nothing is written"
        print(f"bag_to_video: interrupted; {ends}", file=sys.stderr)
        return INTERRUPTED
    print(f"{options.out}: {made} {'sweep' if made == 1 else 'sweeps'}")
    return 0


def make(options: argparse.Namespace) -> int:
    """Write the picture or video; returns the number of sweeps in it."""
    out: Path = options.out
    if out.suffix not in SUFFIXES:
        raise ConfigError(f"{out}: the name must end in {', '.join(SUFFIXES)}")
    rig = read_rig(options.rig)
    images = options.images or options.bag
    _look_for_images(images, rig, options.namespace, is_wanted=options.images is not None)
    out.parent.mkdir(parents=True, exist_ok=True)
    if out.suffix == ".png":
        snapshot = next(snapshots(options.bag, images, rig, middle_of_fullest, options.points, options.namespace))
        draw(snapshot, out, [title(snapshot, snapshot.stamp_ns)])
        return 1
    drive = snapshots(options.bag, images, rig, points=options.points, namespace=options.namespace)
    return write_recording(drive, out) if out.suffix == ".rrd" else write_video(drive, out, options.fps, options.width)


def _look_for_images(path: Path, rig: Rig, namespace: str, is_wanted: bool) -> None:
    """Say that a bag has no images of the rig, which then shows depth alone; SourceError where they are wanted."""
    with open_bag(path) as bag:
        if image_topics(bag, rig, namespace):
            return
        if is_wanted:
            raise SourceError(
                f"bag {path}: no images of any camera of the rig, expected topics such as "
                f"{full_name(f'{rig.names[0]}/{InputForm().topic}', namespace)}; it has {bag.listing()}"
            )
    print(
        f"bag_to_video: no images of any camera of the rig in {path}, the depth is shown alone; where they are in "
        "another bag, name it with --images",
        file=sys.stderr,
    )


def write_video(drive: Iterable[Snapshot], path: Path, fps: float | None = None, width: int = WIDTH) -> int:
    """Write the sweeps as a video; returns their number.

    Args:
        drive: the sweeps, in the order of time.
        path: its ending chooses the codec: .mp4 MPEG-4, .avi Motion JPEG.
        fps: frames a second; by default as many as the drive had.
        width: of the video, pixels.

    Raises SourceError where there are no sweeps, ConfigError where OpenCV cannot write such a video, OSError where the
    file cannot be written, or not to its end.
    """
    iterator = iter(drive)
    first = list(islice(iterator, LOOK_AHEAD))
    if not first:
        raise SourceError("no sweeps to show")
    path.touch()  # says why where it cannot; OpenCV does not
    writer: cv2.VideoWriter | None = None
    count = 0
    try:
        for snapshot in chain(first, iterator):
            picture = compose(snapshot, [title(snapshot, first[0].stamp_ns)])
            if writer is None:  # the first picture decides: OpenCV leaves out those of another size, without a word
                height = 2 * round(picture.shape[0] * width / picture.shape[1] / 2)  # codecs want even sizes
                codec = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
                writer = cv2.VideoWriter(str(path), codec, fps or _rate(first), (width, height))
                if not writer.isOpened():
                    path.unlink(missing_ok=True)
                    raise ConfigError(f"{path}: OpenCV cannot write such a video here; try .avi")
            writer.write(resize(picture, (height, width)))
            count += 1
    finally:
        if writer is not None:
            writer.release()
    _check_written(path, count)
    return count


def _check_written(path: Path, count: int) -> None:
    """Read a video of ``count`` frames back: where the disk is full, OpenCV writes on without a word.

    Raises OSError, with the file gone, where it is not whole.
    """
    video, found = cv2.VideoCapture(str(path)), 0
    while video.grab():
        found += 1
    video.release()
    if found < count:
        path.unlink()
        raise OSError(f"of {count} frames {found} can be read back; is the disk full?")


def title(snapshot: Snapshot, start_ns: int) -> str:
    """The line below the picture."""
    seconds = (snapshot.stamp_ns - start_ns) / 1e9
    return f"{seconds:7.2f} s   {len(snapshot.depths)} of {len(snapshot.rig)} cameras   {len(snapshot.points)} points"


def _rate(sweeps: Sequence[Snapshot]) -> float:
    """Sweeps a second; 10 where there is only one."""
    steps = np.diff([sweep.stamp_ns for sweep in sweeps]) / 1e9
    return float(np.clip(1 / np.median(steps), 1, 60)) if len(steps) and np.median(steps) > 0 else 10.0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bag_to_video", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bag", type=Path, help="bag with the depth")
    parser.add_argument("out", type=Path, help="video (.mp4, .avi), picture (.png) or Rerun recording (.rrd) to write")
    parser.add_argument("--rig", type=Path, required=True, help="rig file, as rig_from_bag writes it")
    parser.add_argument("--images", type=Path, help="bag with the images (the same one)")
    parser.add_argument("--points", help=f"topic of the cloud ({POINTS}, where it was recorded)")
    parser.add_argument(
        "--namespace", default="", help="that the node was started in, for all names without a slash in front (none)"
    )
    parser.add_argument("--fps", type=above_0(MAX_FPS), help="frames a second (as the drive)")
    parser.add_argument(
        "--width", type=whole(MIN_WIDTH, MAX_WIDTH), default=WIDTH, help=f"of the video, pixels ({WIDTH})"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
