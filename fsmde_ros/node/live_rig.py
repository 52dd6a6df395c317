"""The rig as the topics tell it: built from CameraInfo and extrinsics, and anew when they change."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CameraInfo

from fsmde_ros.errors import RigError
from fsmde_ros.node.messages import camera_from_info
from fsmde_ros.node.transforms import Extrinsics
from fsmde_ros.rectifying_turn import rectifying_turn
from fsmde_ros.rig import Camera, Rig

# A mounting that moves by less is the same one: a frame of TF that trembles must not have every image decoded anew.
STILL_M = 0.001
STILL_RAD = np.deg2rad(0.01)


class LiveRig:
    """The cameras that can be used now, and why the others cannot.

    A camera of the rig file is used with the intrinsics given there until its CameraInfo arrives. One that says that
    the driver knows none (``K[0] == 0``) changes nothing. Another CameraInfo that cannot be used makes the camera
    unusable, because the driver says so.
    """

    def __init__(self, names: tuple[str, ...], extrinsics: Extrinsics, fallback: Rig | None, rectified: bool) -> None:
        self._names, self._extrinsics, self._rectified = names, extrinsics, rectified
        self._seen: dict[str, tuple[object, ...]] = {}
        self._infos: dict[str, CameraInfo] = {}
        self._uncalibrated: set[str] = set()  # cameras of the rig file, by their last CameraInfo
        self._problems = dict.fromkeys(names, "no CameraInfo")
        self._mountings: dict[str, NDArray[np.float64] | None] = {}
        self._cameras: dict[str, Camera] = {}
        self._turns: dict[str, float] = {}
        self._rig: Rig | None = None
        self._in_file = {} if fallback is None else {name: fallback[name] for name in names if name in fallback}
        for name in names:
            if fallback is not None and name in fallback:
                self._cameras[name] = _without_distortion(fallback[name]) if rectified else fallback[name]
                del self._problems[name]
            elif fallback is not None:
                self._build(name, CameraInfo(), only_mounting=True)

    def take(self, name: str, message: CameraInfo) -> None:
        """Use a CameraInfo, if it says something new."""
        if message.k[0] == 0 and name in self._in_file:
            self._uncalibrated.add(name)
            return
        self._uncalibrated.discard(name)
        key = (
            message.header.frame_id,
            message.height,
            message.width,
            message.distortion_model,
            np.concatenate([message.k, message.r, message.p, message.d]).tobytes(),  # numbers: NaN never equals NaN
            message.binning_x,
            message.binning_y,
            message.roi.width,
            message.roi.height,
        )
        if self._seen.get(name) == key and name not in self._problems:
            return
        self._seen[name], self._infos[name] = key, message
        self._build(name, message)

    def refresh(self) -> None:
        """Look the mountings up again, and use what has changed: TF may move a camera, or come late.

        What has changed is measured against the mounting in use, so that a slow drift is followed.
        """
        for name, message in self._infos.items():
            known, now = self._mountings.get(name), self._mounting(name, message)
            if known is now or (known is not None and now is not None and _is_still(known, now)):
                continue
            self._build(name, message)

    def rig(self) -> Rig | None:
        """The cameras that can be used, the same object until something changes; None without any."""
        if self._rig is None and self._cameras:
            cameras = tuple(self._cameras[name] for name in self._names if name in self._cameras)
            self._rig = Rig(cameras, self._extrinsics.vehicle_frame, self._extrinsics.ground_z)
        return self._rig

    def problem(self, name: str) -> str:
        """Why a camera cannot be used; empty where it can."""
        return self._problems.get(name, "")

    def has_info(self, name: str) -> bool:
        """Whether a CameraInfo of the camera has arrived, and the last one does not say that the driver knows none."""
        return name in self._infos and name not in self._uncalibrated

    def turns(self) -> dict[str, float]:
        """By how much the images of cameras are turned against their lens by their rectification, degrees.

        Only of those that can be used, and for which it matters (``rectifying_turn``).
        """
        return {name: turn for name, turn in self._turns.items() if turn and name in self._cameras}

    def _build(self, name: str, message: CameraInfo, only_mounting: bool = False) -> None:
        self._rig = None
        self._cameras.pop(name, None)
        try:
            self._mountings[name] = None
            mounting = self._extrinsics.camera_to_vehicle(name, message.header.frame_id)
            self._mountings[name] = mounting
            if not only_mounting:
                camera = camera_from_info(message, name, mounting, self._rectified)
                if name in self._in_file:
                    outlines = self._in_file[name].resized(camera.size).self_occlusion
                    camera = replace(camera, self_occlusion=outlines)
                self._cameras[name] = camera
                self._turns[name] = rectifying_turn(message, self._rectified)
                self._problems.pop(name, None)
        except RigError as error:
            self._problems[name] = str(error)

    def _mounting(self, name: str, message: CameraInfo) -> NDArray[np.float64] | None:
        try:
            return self._extrinsics.camera_to_vehicle(name, message.header.frame_id)
        except RigError:
            return None


def _is_still(known: NDArray[np.float64], now: NDArray[np.float64]) -> bool:
    """Whether two mountings [4, 4] are as good as the same."""
    moved_m = float(np.linalg.norm(now[:3, 3] - known[:3, 3]))
    turned_rad = float(np.linalg.norm(now[:3, :3] - known[:3, :3])) / np.sqrt(2)  # of a small angle
    return bool(moved_m < STILL_M and turned_rad < STILL_RAD)


def _without_distortion(camera: Camera) -> Camera:
    """The camera of images that the driver has rectified already."""
    return replace(camera, distortion=np.zeros(0), distortion_model="none")
