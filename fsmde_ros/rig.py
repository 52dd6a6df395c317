"""The calibrated cameras of a vehicle."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.errors import RigError
from fsmde_ros.geometry import scale_intrinsics

Array = NDArray[np.float64]

VEHICLE_FRAME = "base_link"
"""The vehicle frame where no other is given: that of REP 105."""

DISTORTION_LENGTHS: dict[str, tuple[int, ...]] = {
    "none": (0,),
    "plumb_bob": (0, 4, 5),
    "rational_polynomial": (8, 12, 14),  # OpenCV's longer forms: thin prisms, a tilted sensor
    "equidistant": (4,),
}
_OTHER_NAMES = {"": "none", "fisheye": "equidistant"}  # of models, in CameraInfo


# What no camera on a vehicle has: beyond these the network's numbers would overflow and spoil other views.
MAX_SIDE = 65_535  # pixels; also the limit of JPEG
MIN_FOCAL, MAX_INTRINSIC = 1e-3, 1e6  # pixels
MAX_DISTANCE = 1e4  # metres from the origin of the vehicle frame


@dataclass(frozen=True, eq=False)
class Camera:
    """One calibrated camera.

    Attributes:
        name: name of the camera; its topics begin with it.
        size: (H, W) in pixels, of the images that ``intrinsics`` belong to.
        intrinsics: [3, 3] float64, pixels.
        camera_to_vehicle: [4, 4] float64, optical frame to vehicle frame, metres.
        distortion: coefficients in the order of ``CameraInfo.d``; empty for a rectified image.
        distortion_model: a name of ``DISTORTION_LENGTHS``.
        frame: TF frame of the optical frame, without the leading slash of ROS 1; the name of the camera by default.
        self_occlusion: polygons [N, 2] of pixels (x, y) of the image as it comes, raw or rectified, within which the
            camera sees the vehicle that it is mounted on; see ``self_occlusion.usable_pixels``.
    """

    name: str
    size: tuple[int, int]
    intrinsics: Array
    camera_to_vehicle: Array
    distortion: Array = field(default_factory=lambda: np.zeros(0))
    distortion_model: str = "none"
    frame: str = ""
    self_occlusion: tuple[Array, ...] = ()

    def __post_init__(self) -> None:
        outlines = tuple(np.array(outline, dtype=np.float64) for outline in self.self_occlusion)
        object.__setattr__(self, "self_occlusion", outlines)
        for name in ("intrinsics", "camera_to_vehicle", "distortion"):
            value = np.array(getattr(self, name), dtype=np.float64)
            value.setflags(write=False)
            object.__setattr__(self, name, value)
        object.__setattr__(self, "size", (int(self.size[0]), int(self.size[1])))
        object.__setattr__(self, "frame", self.frame.lstrip("/") or self.name)
        self._check()
        # To the rim of the image, which stays the rim when it is resized; the pixel after the last may be given, too.
        rim = np.array(self.size[::-1]) - 0.5
        object.__setattr__(self, "self_occlusion", tuple(np.clip(outline, -0.5, rim) for outline in outlines))

    def _check(self) -> None:
        where = f"camera '{self.name}'"
        if not self.name:
            raise RigError("a camera must have a name, got an empty one")
        if min(self.size) < 1 or max(self.size) > MAX_SIDE:
            raise RigError(f"{where}: size must be (height, width) of 1 to {MAX_SIDE} pixels, got {self.size}")
        k = self.intrinsics
        if k.shape != (3, 3) or not np.isfinite(k).all():
            raise RigError(f"{where}: intrinsics must be a finite 3x3 matrix, got {k.tolist()}")
        if k[0, 0] <= 0 or k[1, 1] <= 0 or not np.allclose(k[2], [0, 0, 1]):
            raise RigError(
                f"{where}: uncalibrated: focal lengths must be above 0 and the last row 0 0 1, got {k.tolist()}; "
                "calibrate the camera and publish its CameraInfo, or give its intrinsics in the rig file"
            )
        if min(k[0, 0], k[1, 1]) < MIN_FOCAL or np.abs(k).max() > MAX_INTRINSIC:
            raise RigError(
                f"{where}: intrinsics must be pixels, focal lengths from {MIN_FOCAL} and all values up to "
                f"{MAX_INTRINSIC:g}, got {k.tolist()}; calibrate the camera anew"
            )
        t = self.camera_to_vehicle
        if t.shape != (4, 4) or not np.isfinite(t).all() or not np.allclose(t[3], [0, 0, 0, 1]):
            raise RigError(f"{where}: camera_to_vehicle must be a finite rigid 4x4 transform, got {t.tolist()}")
        if np.abs(t[:3, 3]).max() > MAX_DISTANCE:
            raise RigError(
                f"{where}: camera_to_vehicle must be metres on a vehicle, up to {MAX_DISTANCE:g}, got "
                f"{t[:3, 3].tolist()}"
            )
        rotation = t[:3, :3]
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
            raise RigError(f"{where}: camera_to_vehicle must have a right-handed rotation, got {rotation.tolist()}")
        lengths = DISTORTION_LENGTHS.get(self.distortion_model)
        if lengths is None:
            raise RigError(
                f"{where}: distortion_model must be one of {sorted(DISTORTION_LENGTHS)}, got "
                f"{reprlib.repr(self.distortion_model)}"
            )
        if self.distortion.size not in lengths or not np.isfinite(self.distortion).all():
            raise RigError(
                f"{where}: distortion_model '{self.distortion_model}' takes {' or '.join(map(str, lengths))} "
                f"finite coefficients, got {reprlib.repr(self.distortion.tolist())}"
            )
        for i, outline in enumerate(self.self_occlusion):
            self._check_outline(outline, f"{where}: self_occlusion[{i}]")

    def _check_outline(self, outline: Array, where: str) -> None:
        if outline.ndim != 2 or outline.shape[0] < 3 or outline.shape[1] != 2:
            raise RigError(f"{where}: expected at least 3 pixels [x, y], got {reprlib.repr(outline.tolist())}")
        height, width = self.size
        outside = ~((outline >= -1) & (outline <= (width, height))).all(axis=1)  # NaN is outside, too
        if outside.any():
            x, y = outline[outside][0].tolist()
            raise RigError(
                f"{where}: pixel [{x:g}, {y:g}] lies outside of the image, which is {width}x{height}; give the pixels "
                "of an image of that size"
            )

    @property
    def is_rectified(self) -> bool:
        """Whether images of this camera follow the pinhole model as they are."""
        return follows_pinhole(self.distortion_model, self.distortion)

    def rectified(self) -> Camera:
        """The camera of the undistorted images, which keep size and intrinsics; without ``self_occlusion``."""
        return replace(self, distortion=np.zeros(0), distortion_model="none", self_occlusion=())

    def resized(self, size: tuple[int, int]) -> Camera:
        """The same camera with images resized to ``size`` (H, W), by the half-pixel rule."""
        scale = np.divide(size, self.size)[::-1]  # of x and y
        outlines = tuple((outline + 0.5) * scale - 0.5 for outline in self.self_occlusion)
        intrinsics = scale_intrinsics(self.intrinsics, self.size, size)
        return replace(self, size=size, intrinsics=intrinsics, self_occlusion=outlines)


def follows_pinhole(model: str, distortion: Array) -> bool:
    """Whether a lens has straight rays: no coefficient counts. Zeros of ``equidistant`` do: ``r = f theta``."""
    return model != "equidistant" and not np.any(distortion)


def distortion_of_info(model: str, coefficients: Iterable[float]) -> tuple[str, Array]:
    """``distortion_model`` and ``d`` of a CameraInfo as a ``Camera`` takes them; unknown models stay as they are."""
    known, values = _OTHER_NAMES.get(model, model), np.array(list(coefficients), dtype=np.float64)
    return known, values if known != "none" or np.any(values) else np.zeros(0)  # drivers without a model send zeros


def check_info(info: Any, name: str, rectified: bool) -> None:
    """Refuse a CameraInfo, of rclpy or of rosbags, that no camera can be made of.

    Raises RigError where it is uncalibrated (``K[0] == 0``), binned or cropped, or of ``rectified`` images but
    without their P.
    """
    if info.k[0] == 0:
        raise RigError(f"uncalibrated: K of the CameraInfo of '{name}' is zero; calibrate the camera")
    cropped = info.roi.height not in (0, info.height) or info.roi.width not in (0, info.width)
    if max(info.binning_x, info.binning_y) > 1 or cropped:
        raise RigError(
            f"the CameraInfo of '{name}' is of a binned or cropped image (binning {info.binning_x}x{info.binning_y}, "
            f"roi {info.roi.width}x{info.roi.height}), expected the whole image"
        )
    if rectified and info.p[0] == 0 and np.any(info.d):
        raise RigError(
            f"the CameraInfo of '{name}' has no P but a distortion, expected the P of a rectified image; "
            "publish rectified images with their P, or raw ones, and set input.rectified of the node to false"
        )


@dataclass(frozen=True, eq=False)
class Rig:
    """The cameras of a vehicle, in a fixed order, with one vehicle frame.

    Attributes:
        cameras: at least one camera, names unique.
        vehicle_frame: TF frame that ``camera_to_vehicle`` leads to, without the leading slash of ROS 1.
        ground_z: height of the road under the wheels in the vehicle frame, metres: negative where its origin is above
            the road, as at an axle or a sensor. REP 105 lets base_link be anywhere on the vehicle; 0 is true of a frame
            on the road, such as base_footprint (REP 120).
    """

    cameras: tuple[Camera, ...]
    vehicle_frame: str = VEHICLE_FRAME
    ground_z: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", tuple(self.cameras))
        object.__setattr__(self, "vehicle_frame", self.vehicle_frame.lstrip("/"))
        object.__setattr__(self, "ground_z", float(self.ground_z))
        if not self.cameras:
            raise RigError("a rig must have at least one camera, got none")
        names = self.names
        if len(set(names)) != len(names):
            raise RigError(f"the cameras of a rig must have unique names, got {list(names)}")
        if not np.isfinite(self.ground_z):
            raise RigError(f"ground_z must be a finite height in metres, got {self.ground_z}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the cameras, in order."""
        return tuple(camera.name for camera in self.cameras)

    def __len__(self) -> int:
        return len(self.cameras)

    def __getitem__(self, name: str) -> Camera:
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise RigError(f"the rig has no camera '{name}'; it has {', '.join(self.names)}")

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def subset(self, names: Iterable[str]) -> Rig:
        """The rig with only the cameras ``names``, in that order."""
        return replace(self, cameras=tuple(self[name] for name in names))

    def rectified(self) -> Rig:
        """The rig with the cameras of the undistorted images, see ``Camera.rectified``."""
        return replace(self, cameras=tuple(camera.rectified() for camera in self.cameras))

    def resized(self, size: tuple[int, int]) -> Rig:
        """The rig with every camera resized to ``size`` (H, W)."""
        return replace(self, cameras=tuple(camera.resized(size) for camera in self.cameras))

    def intrinsics(self) -> Array:
        """Intrinsics of all cameras, [V, 3, 3], pixels."""
        return np.stack([camera.intrinsics for camera in self.cameras])

    def camera_to_vehicle(self) -> Array:
        """Extrinsics of all cameras, [V, 4, 4], metres."""
        return np.stack([camera.camera_to_vehicle for camera in self.cameras])
