"""Where the sensors are, for the programs that listen beside the node: from a rig file, or from TF."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.node import Node

from fsmde_ros.errors import ConfigError, RigError
from fsmde_ros.node.transforms import Extrinsics, RigFileExtrinsics, TfBuffer, TfExtrinsics
from fsmde_ros.rig import VEHICLE_FRAME
from fsmde_ros.rig_file import read_lidars, read_rig


@dataclass(frozen=True)
class Placement:
    """Where the sensors are: cameras from the rig file or TF, LiDARs by frame from the same."""

    cameras: tuple[str, ...]
    extrinsics: Extrinsics
    lidars: Mapping[str, NDArray[np.float64]]

    def lidar_to_vehicle(self, frame: str) -> NDArray[np.float64]:
        """[4, 4] of a LiDAR's frame, with or without ROS 1's slash. Raises RigError where nobody says where it is."""
        frame = frame.lstrip("/")
        if frame == self.extrinsics.vehicle_frame:
            return np.eye(4)
        if frame in self.lidars:
            return self.lidars[frame]
        if isinstance(self.extrinsics, TfExtrinsics):
            return self.extrinsics.camera_to_vehicle(frame, frame)
        known = ", ".join([self.extrinsics.vehicle_frame, *self.lidars])
        raise RigError(
            f"the rig file does not say where frame '{frame}' is mounted (it knows {known}); "
            "make the rig file with rig_from_bag, or add it under 'lidars'"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options ``--rig``, ``--cameras`` and ``--vehicle-frame``, as ``find_placement`` takes them."""
    parser.add_argument("--rig", type=Path, help="rig file, as rig_from_bag writes it")
    parser.add_argument("--cameras", nargs="+", default=[], help="names (those of the rig file)")
    frame = f"as the node's (that of the rig file, with TF {VEHICLE_FRAME})"
    parser.add_argument("--vehicle-frame", default="", help=frame)


def rig_file_of(node: Node) -> Path | None:
    """The parameter ``rig_file`` of the node, where it is set."""
    descriptor = ParameterDescriptor(description="Rig file, as rig_from_bag writes it.", read_only=True)
    path = str(node.declare_parameter("rig_file", "", descriptor).value)
    return Path(path) if path else None


def find_placement(
    node: Node, rig_file: Path | None, cameras: tuple[str, ...], vehicle_frame: str = "", ground_z: float = 0.0
) -> Placement:
    """From the rig file; without one from TF. Raises ConfigError or RigError where neither will do.

    ``vehicle_frame``: with or without ROS 1's slash, empty for that of the rig file, with TF ``base_link``;
    ``ground_z``: height of the road in it, metres, as no transform says it. A rig file has both; ConfigError where it
    contradicts them.
    """
    vehicle_frame = vehicle_frame.lstrip("/")
    if rig_file is not None:
        rig = read_rig(rig_file)
        if vehicle_frame not in ("", rig.vehicle_frame) or ground_z not in (0.0, rig.ground_z):
            raise ConfigError(
                f"the rig file {rig_file} is in '{rig.vehicle_frame}' with the road at {rig.ground_z}; leave "
                f"--vehicle-frame and --ground-z out, got '{vehicle_frame}' and {ground_z}"
            )
        return Placement(cameras or rig.names, RigFileExtrinsics(rig, str(rig_file)), read_lidars(rig_file))
    if not cameras:
        raise ConfigError(
            "no rig file: give --rig FILE (rig_from_bag writes one) or the parameter rig_file; "
            "or --cameras NAME..., to take their places from TF"
        )
    tf = TfBuffer(node, "give --rig FILE (rig_from_bag writes one)")
    return Placement(cameras, TfExtrinsics(tf, vehicle_frame or VEHICLE_FRAME, ground_z), {})
