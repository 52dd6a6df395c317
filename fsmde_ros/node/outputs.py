"""The publishers of the node, and what goes out on them for one sweep."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import replace

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from numpy.typing import NDArray
from rclpy.lifecycle import LifecycleNode, LifecyclePublisher
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Float64, Header

from fsmde_ros.color import colorize, mosaic, rows_of_rig
from fsmde_ros.fusion import fuse
from fsmde_ros.node.diagnostics import SweepReport
from fsmde_ros.node.messages import (
    OUTPUT_QOS,
    REPORT_QOS,
    camera_to_info,
    cloud_to_message,
    depth_to_image,
    float_to_image,
    picture_to_message,
    rgb_to_image,
    stamp_message,
)
from fsmde_ros.node.parameters import Settings
from fsmde_ros.rig import Rig
from fsmde_ros.sweep import SurroundDepth
from fsmde_ros.topics import COLOR, DEPTH, DEPTH_INFO, STDDEV

STAGES = ("decode", "network", "stereo", "publish", "total")


class Outputs:
    """All publishers but that of the diagnostics; they publish only while the node is active."""

    def __init__(self, node: LifecycleNode, cameras: tuple[str, ...], vehicle_frame: str) -> None:
        self._node, self._vehicle_frame = node, vehicle_frame
        self._depth = {name: self._advertise(Image, f"{name}/{DEPTH}") for name in cameras}
        self._info = {name: self._advertise(CameraInfo, f"{name}/{DEPTH_INFO}") for name in cameras}
        self._stddev = {name: self._advertise(Image, f"{name}/{STDDEV}") for name in cameras}
        self._color = {name: self._advertise(Image, f"{name}/{COLOR}") for name in cameras}
        self._points = self._advertise(PointCloud2, "~/points")
        self._preview = self._advertise(CompressedImage, "~/preview/compressed")
        self._sweep = self._advertise(DiagnosticArray, "~/sweep", REPORT_QOS)
        self._latency = {stage: self._advertise(Float64, f"~/latency/{stage}", REPORT_QOS) for stage in STAGES}

    def publish_depth(
        self,
        depth: SurroundDepth,
        images: NDArray[np.uint8],
        headers: Mapping[str, Header],
        settings: Settings,
        rig: Rig,
        cloud_rig: Rig | None = None,
    ) -> None:
        """Depth of every view, and where somebody listens its stddev and colours, the cloud and the preview.

        Args:
            depth: the depth of the views, [V, H, W].
            images: the views it was made from, [V, H, W, 3] RGB.
            headers: stamp and frame of the input image, by camera.
            settings: encoding, limits and sizes.
            rig: all cameras that can be used, also those without a view; each has its place in the preview.
            cloud_rig: the rig whose mountings lead to the reference time; the depth's own by default.
        """
        for camera, image in zip(depth.rig.cameras, images, strict=True):
            values, stddev = depth.view(camera.name)
            header = headers[camera.name]
            self._depth[camera.name].publish(depth_to_image(values, header, settings.depth_encoding))
            self._info[camera.name].publish(camera_to_info(camera, header))
            if self._stddev[camera.name].get_subscription_count():
                self._stddev[camera.name].publish(float_to_image(stddev, header))
            if self._color[camera.name].get_subscription_count():
                self._color[camera.name].publish(rgb_to_image(image, header))
        header = Header(stamp=stamp_message(depth.stamp_ns), frame_id=self._vehicle_frame)
        if settings.cloud_enabled and self._points.get_subscription_count():
            at_reference = depth if cloud_rig is None else replace(depth, rig=cloud_rig)
            self._points.publish(cloud_to_message(fuse(at_reference, images, settings.fusion()), header))
        if self._preview.get_subscription_count():
            self._preview.publish(picture_to_message(preview(depth, images, settings, rig), header))

    def publish_report(self, report: SweepReport) -> None:
        """The report of a sweep and its times; those of ``~/latency`` have no stamp, ``~/sweep`` and the log have."""
        self._node.get_logger().debug(report.to_line())
        for stage, value in report.times_ms.items():
            self._latency[stage].publish(Float64(data=value))
        self._sweep.publish(report.to_message(self._vehicle_frame))

    def close(self) -> None:
        """Destroy the publishers."""
        of_cameras = (self._depth, self._info, self._stddev, self._color, self._latency)
        every = [publisher for publishers in of_cameras for publisher in publishers.values()]
        for publisher in [*every, self._points, self._preview, self._sweep]:
            self._node.destroy_lifecycle_publisher(publisher)

    def _advertise(self, kind: type, topic: str, qos: QoSProfile = OUTPUT_QOS) -> LifecyclePublisher:
        # a copy: rclpy writes what is overridden for this topic into the profile
        publisher: LifecyclePublisher = self._node.create_lifecycle_publisher(
            kind, topic, copy(qos), qos_overriding_options=QoSOverridingOptions.with_default_policies()
        )
        return publisher


def preview(depth: SurroundDepth, images: NDArray[np.uint8], settings: Settings, rig: Rig) -> NDArray[np.uint8]:
    """Every view above its depth, with its name, RGB, ``preview.width`` pixels wide.

    Views stand as their cameras do in ``rig``; one that is missing leaves its field grey, and the others where they
    are.
    """
    far = settings.depth_max_range_m or 80.0
    tiles = {
        name: np.concatenate([image, colorize(values, far=max(far, 2.0))])
        for name, image, values in zip(depth.rig.names, images, depth.depth, strict=True)
    }
    return mosaic(tiles, rows_of_rig(rig), settings.preview_width, named=True)
