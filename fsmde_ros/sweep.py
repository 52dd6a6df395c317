"""What a rig saw in one moment, and the depth that was estimated for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.bit_depth import BitDepth
from fsmde_ros.errors import RigError
from fsmde_ros.geometry import compose, invert, project, transform
from fsmde_ros.rig import Rig


@dataclass(frozen=True, eq=False)
class EncodedImage:
    """A compressed image (JPEG or PNG bytes) that nobody has decoded yet.

    Attributes:
        data: the bytes.
        format: as in CompressedImage; may name a Bayer pattern.
        depth: what is known of the bits of its camera, for a PNG of 16 bits; by default only this image tells.
    """

    data: bytes
    format: str = "jpeg"
    depth: BitDepth = field(default_factory=BitDepth)


@dataclass(frozen=True, eq=False)
class View:
    """One image of a sweep.

    Attributes:
        image: [H, W, 3] uint8 RGB, or the bytes it will be decoded from.
        stamp_ns: time of the exposure, nanoseconds.
        vehicle_to_map: [4, 4] pose of the vehicle at ``stamp_ns``, where it is known.
    """

    image: NDArray[np.uint8] | EncodedImage
    stamp_ns: int
    vehicle_to_map: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class LidarScan:
    """One turn of a LiDAR.

    Attributes:
        points_vehicle: [N, 3] metres, in the vehicle frame at ``stamp_ns``.
        stamp_ns: time the points are compensated to, nanoseconds.
        intensity: [N] float32, 0 to 255.
        ring: [N] int32, index of the beam.
        vehicle_to_map: [4, 4] pose of the vehicle at ``stamp_ns``, where it is known.
        sensor_to_vehicle: [4, 4] where the LiDAR is mounted, where it is known.
        name: name of the LiDAR: its topic and its frame.
    """

    points_vehicle: NDArray[np.float64]
    stamp_ns: int
    intensity: NDArray[np.float32] | None = None
    ring: NDArray[np.int32] | None = None
    vehicle_to_map: NDArray[np.float64] | None = None
    sensor_to_vehicle: NDArray[np.float64] | None = None
    name: str = "lidar"


@dataclass(frozen=True, eq=False)
class Sweep:
    """What the rig saw in one moment.

    Attributes:
        rig: the rig; cameras that are not in ``views`` are missing in this sweep.
        stamp_ns: the reference time of the sweep, nanoseconds.
        views: the views by camera name, at least one.
        lidar: the LiDAR scan that belongs to the sweep, where there is one.
    """

    rig: Rig
    stamp_ns: int
    views: Mapping[str, View]
    lidar: LidarScan | None = None
    missing: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        unknown = [name for name in self.views if name not in self.rig]
        if unknown:
            raise RigError(f"the sweep has views of {unknown}, which the rig does not have: {list(self.rig.names)}")
        if not self.views:
            raise RigError("a sweep must have at least one view, got none")
        missing = tuple(name for name in self.rig.names if name not in self.views)
        object.__setattr__(self, "missing", missing)

    @property
    def present(self) -> tuple[str, ...]:
        """Names of the cameras that have a view, in the order of the rig."""
        return tuple(name for name in self.rig.names if name in self.views)


@dataclass(frozen=True, eq=False)
class SurroundDepth:
    """Metric depth of the views of a sweep.

    Attributes:
        rig: the cameras of ``depth``, in its order, resized to its size.
        stamp_ns: reference time of the sweep, nanoseconds.
        depth: [V, H, W] float32, metres along the optical axis; NaN = no value, +inf = out of
            range (sky).
        stddev: [V, H, W] float32, metres; NaN where ``depth`` is not finite.
        cameras: names of all cameras of the whole rig, in its order, also of those that the sweep had no view of;
            those of ``rig`` where none are given.
    """

    rig: Rig
    stamp_ns: int
    depth: NDArray[np.float32]
    stddev: NDArray[np.float32]
    cameras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", self.cameras or self.rig.names)
        expected = (len(self.rig), *self.rig.cameras[0].size)
        if self.depth.shape != expected or self.stddev.shape != expected:
            raise ValueError(
                f"depth and stddev must be [V, H, W] = {expected}, got {self.depth.shape}, {self.stddev.shape}"
            )

    def view(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Depth and standard deviation of one camera, each [H, W], metres."""
        index = self.rig.names.index(self.rig[name].name)
        return self.depth[index], self.stddev[index]


def lidar_in_view(sweep: Sweep, name: str, min_depth: float = 0.1) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Project the LiDAR of a sweep into one of its views.

    Where the poses of the vehicle are known at both stamps, the points are first moved to the
    stamp of the view (ego-motion compensation, as nuscenes-devkit does); objects that moved
    between the stamps keep their place.

    Returns:
        pixels [M, 2] (x, y) at the size of the rig's camera and depth [M] in metres, of the
        points with depth above ``min_depth`` whose pixel lies within the image.
    """
    if sweep.lidar is None:
        return np.zeros((0, 2)), np.zeros(0)
    view, camera = sweep.views[name], sweep.rig[name]
    points = scan_at_pose(sweep.lidar, view.vehicle_to_map)
    points_camera = transform(invert(camera.camera_to_vehicle), points)
    points_camera = points_camera[points_camera[:, 2] > min_depth]
    pixels, depth = project(camera.intrinsics, points_camera)
    height, width = camera.size
    inside = (
        (pixels[:, 0] > -0.5) & (pixels[:, 0] < width - 0.5) & (pixels[:, 1] > -0.5) & (pixels[:, 1] < height - 0.5)
    )
    return pixels[inside], depth[inside]


def scan_at_pose(scan: LidarScan, vehicle_to_map: NDArray[np.float64] | None) -> NDArray[np.float64]:
    """Points of a scan, [N, 3], in the vehicle frame at another pose of the vehicle.

    Without poses the points are returned as they are.
    """
    if vehicle_to_map is None or scan.vehicle_to_map is None:
        return scan.points_vehicle
    return transform(compose(invert(vehicle_to_map), scan.vehicle_to_map), scan.points_vehicle)
