"""``rerun_view``: what the node takes and publishes, in the viewer Rerun while it happens.

rerun_view --rig rig.yaml                          in a new window
rerun_view --rig rig.yaml --connect laptop:9876    in a viewer that runs elsewhere
rerun_view --rig rig.yaml --save drive.rrd         into a recording, until Ctrl-C

Rerun is optional: pip install -r requirements/viewer.txt. Everything is shown at its own stamp, so nothing has
to be assembled. Listening to the cloud makes the node fuse it, as with every other listener.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.utilities import try_shutdown
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from fsmde_ros.bit_depth import BitDepth
from fsmde_ros.cloud_layout import colored_points
from fsmde_ros.errors import FsmdeError
from fsmde_ros.images import decode, looks_right_anywhere
from fsmde_ros.node.command_line import StopSignal, init_ros, spin_until_stopped, split_ros_arguments
from fsmde_ros.node.messages import camera_from_info, compressed_to_encoded, image_to_depth, image_to_rgb, stamp_ns
from fsmde_ros.node.placement import Placement, add_arguments, find_placement, rig_file_of
from fsmde_ros.rerun_recording import DEPTH, IMAGE, Recording
from fsmde_ros.rig import Camera
from fsmde_ros.sources.bag_rig import is_rectified_topic
from fsmde_ros.sweep import EncodedImage
from fsmde_ros.topics import DEPTH as DEPTH_TOPIC
from fsmde_ros.topics import DEPTH_INFO, POINTS, InputForm

IMAGES = InputForm().topic
# Longer queues than the node's: a recording wants every message, and is not late by waiting for one.
INPUTS = QoSProfile(depth=20, reliability=ReliabilityPolicy.BEST_EFFORT)
OUTPUTS = QoSProfile(depth=20)


@dataclass(frozen=True)
class ViewOptions:
    """What to listen to and where to show it; topics are relative to the namespace.

    Attributes:
        rig: rig file; without it the node's parameter ``rig_file``, as a launch file sets it.
        cameras: names; without them those of the rig file. Without a rig file TF says where they are.
        vehicle_frame: empty for that of the rig file, with TF ``base_link``.
        image: topic of the images, after the camera's name; CompressedImage where it ends in ``/compressed``.
        points: topic of the cloud.
        save: file to write (.rrd) instead of opening a window.
        connect: HOST:PORT of a viewer that runs already.
    """

    rig: Path | None = None
    cameras: tuple[str, ...] = ()
    vehicle_frame: str = ""
    image: str = IMAGES
    points: str = POINTS
    save: Path | None = None
    connect: str | None = None


class RerunView:
    """Hands every message to the recording as it comes, at the stamp of its header."""

    def __init__(self, node: Node, placement: Placement, recording: Recording, options: ViewOptions) -> None:
        self._node, self._placement, self._recording = node, placement, recording
        self._shown: dict[tuple[str, str], tuple[object, ...]] = {}
        self._complaints: set[str] = set()
        self.messages = 0
        for name in placement.cameras:
            self._listen_to_camera(name, options.image)
        node.create_subscription(PointCloud2, options.points, self._take_cloud, OUTPUTS)

    def _listen_to_camera(self, name: str, image: str) -> None:
        is_rectified, bits = is_rectified_topic(image), BitDepth()

        def take_camera(message: CameraInfo) -> None:
            show = self._show_camera
            self._take(f"{name}/camera_info", message.header, lambda: show(name, IMAGE, message, is_rectified))

        def take_depth_camera(message: CameraInfo) -> None:
            self._take(f"{name}/{DEPTH_INFO}", message.header, lambda: self._show_camera(name, DEPTH, message, True))

        def take_encoded(message: CompressedImage) -> None:
            encoded = compressed_to_encoded(message, bits)
            self._take(f"{name}/{image}", message.header, lambda: self._show_encoded(name, encoded))

        def take_raw(message: Image) -> None:
            show = self._recording.image
            self._take(f"{name}/{image}", message.header, lambda: show(name, image_to_rgb(message, bits)))

        def take_depth(message: Image) -> None:
            show = self._recording.depth
            self._take(f"{name}/{DEPTH_TOPIC}", message.header, lambda: show(name, image_to_depth(message)))

        subscribe = self._node.create_subscription
        subscribe(CameraInfo, f"{name}/camera_info", take_camera, INPUTS)
        if image.endswith("/compressed"):
            subscribe(CompressedImage, f"{name}/{image}", take_encoded, INPUTS)
        else:
            subscribe(Image, f"{name}/{image}", take_raw, INPUTS)
        subscribe(CameraInfo, f"{name}/{DEPTH_INFO}", take_depth_camera, OUTPUTS)
        subscribe(Image, f"{name}/{DEPTH_TOPIC}", take_depth, OUTPUTS)

    def _take_cloud(self, message: PointCloud2) -> None:
        self._take("points", message.header, lambda: self._recording.cloud(*colored_points(message)))

    def _take(self, topic: str, header: Header, show: Callable[[], None]) -> None:
        """Show a message at its stamp; one that cannot be shown is said once, by topic and reason."""
        self.messages += 1
        try:
            self._recording.at(stamp_ns(header.stamp))
            show()
        except FsmdeError as error:
            text = f"{topic}: {error}"
            if text not in self._complaints:
                self._complaints.add(text)
                self._node.get_logger().error(text)

    def _show_encoded(self, name: str, image: EncodedImage) -> None:
        """The bytes as they are, where the viewer can show them; it knows no Bayer mosaics."""
        if looks_right_anywhere(image):
            self._recording.encoded_image(name, image.data)
        else:
            self._recording.image(name, decode(image))

    def _show_camera(self, name: str, what: str, message: CameraInfo, is_rectified: bool) -> None:
        """Where a camera is and how it sees, when that is new."""
        place = self._placement.extrinsics.camera_to_vehicle(name, message.header.frame_id)
        camera = camera_from_info(message, name, place, is_rectified)
        if self._shown.get((name, what)) != _identity(camera):
            self._recording.camera(camera, what)
            self._shown[name, what] = _identity(camera)


def _identity(camera: Camera) -> tuple[object, ...]:
    return camera.size, camera.intrinsics.tobytes(), camera.camera_to_vehicle.tobytes()


def view(options: ViewOptions, ros_arguments: Sequence[str] = ()) -> int:
    """Show until SIGINT or SIGTERM; returns the number of messages."""
    recording = Recording(options.save, options.connect)
    with StopSignal() as stop:
        init_ros(ros_arguments)
        try:
            node = Node("rerun_view")
            rig_file = options.rig or rig_file_of(node)
            placement = find_placement(node, rig_file, options.cameras, options.vehicle_frame)
            shown = RerunView(node, placement, recording, options)
            node.get_logger().info(f"ready: listening to {len(placement.cameras)} cameras")
            spin_until_stopped(node, stop, lambda: shown.messages)
            node.destroy_node()
        finally:
            try_shutdown()
            recording.close()
    return shown.messages


def parse_arguments(arguments: Sequence[str]) -> ViewOptions:
    """Options from the command line; argparse ends the program on a bad one."""
    parser = argparse.ArgumentParser(
        prog="rerun_view", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--image", default=IMAGES, help=f"images, after the name of the camera ({IMAGES})")
    parser.add_argument("--points", default=POINTS, help=f"the cloud ({POINTS})")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--save", type=Path, help="write this recording (.rrd); no window")
    where.add_argument("--connect", help="HOST:PORT of a viewer that runs already; no new window")
    values = parser.parse_args(arguments)
    return ViewOptions(
        rig=values.rig,
        cameras=tuple(values.cameras),
        vehicle_frame=values.vehicle_frame,
        image=values.image,
        points=values.points,
        save=values.save,
        connect=values.connect,
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit status: 0 shown until a signal, 2 cannot start."""
    arguments, ros_arguments = split_ros_arguments(sys.argv[1:] if argv is None else argv)
    try:
        options = parse_arguments(arguments)
        count = view(options, ros_arguments)
    except FsmdeError as error:
        print(f"rerun_view: {error}", file=sys.stderr)
        return 2
    print(f"{options.save or 'rerun_view'}: {count} messages", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
