"""Images, depth and clouds for the viewer Rerun, which is optional (requirements/viewer.txt)."""

from __future__ import annotations

import importlib
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.errors import ConfigError
from fsmde_ros.picture import Snapshot
from fsmde_ros.rig import Camera

APPLICATION = "fsmde_ros"
JPEG_QUALITY = 85
POINT_RADIUS = 0.05  # metres
PNG = b"\x89PNG"  # how such a file begins
IMAGE, DEPTH = "image", "depth"


class Recording:
    """What Rerun gets, each where it is and at its stamp: in a file, or in the window of a viewer.

    Entities: ``vehicle/<camera>/image``, ``vehicle/<camera>/depth`` (metres) and ``vehicle/points``, on the
    timeline ``stamp``. The images are under the camera's own pinhole, the depth under that of its size.
    """

    def __init__(self, save: Path | None = None, connect: str | None = None) -> None:
        """Write the file ``save`` (.rrd), or show in the viewer at ``connect`` (HOST:PORT), or in a new one.

        Raises ConfigError where Rerun is not installed or finds no viewer to start, or there is no such HOST:PORT.
        """
        self._rerun = _rerun()
        self._stream = self._rerun.new_recording(APPLICATION)
        if save is not None:
            save.parent.mkdir(parents=True, exist_ok=True)
            self._rerun.save(save, recording=self._stream)
        elif connect is not None:
            self._rerun.connect_tcp(socket_address(connect), recording=self._stream)
        else:
            self._spawn()
        self._log("vehicle", self._rerun.ViewCoordinates.FLU, static=True)

    def at(self, stamp_ns: int) -> None:
        """What follows is of this stamp, nanoseconds."""
        self._rerun.set_time_nanos("stamp", stamp_ns, recording=self._stream)

    def camera(self, camera: Camera, what: str) -> None:
        """Where a camera is, and its pinhole at the size of its ``IMAGE`` or ``DEPTH``."""
        pose = camera.camera_to_vehicle
        place = self._rerun.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3])
        pinhole = self._rerun.Pinhole(
            image_from_camera=camera.intrinsics,
            resolution=camera.size[::-1],
            camera_xyz=self._rerun.ViewCoordinates.RDF,
        )
        self._log(f"vehicle/{camera.name}", place)
        self._log(f"vehicle/{camera.name}/{what}", pinhole)

    def image(self, name: str, image: NDArray[np.uint8]) -> None:
        """RGB [H, W, 3]; kept as a JPEG."""
        compressed = self._rerun.Image(image).compress(jpeg_quality=JPEG_QUALITY)
        self._log(f"vehicle/{name}/{IMAGE}", compressed)

    def encoded_image(self, name: str, data: bytes) -> None:
        """The bytes of a JPEG or PNG, as they are."""
        kind = "image/png" if data.startswith(PNG) else "image/jpeg"
        self._log(f"vehicle/{name}/{IMAGE}", self._rerun.EncodedImage(contents=data, media_type=kind))

    def depth(self, name: str, depth: NDArray[np.float32]) -> None:
        """[H, W] metres, NaN = no value, +inf = out of range."""
        # Rerun knows 0 as "no depth", and neither NaN nor infinity.
        shown: NDArray[np.float32] = np.where(np.isfinite(depth), depth, 0).astype(np.float32)
        self._log(f"vehicle/{name}/{DEPTH}", self._rerun.DepthImage(shown, meter=1.0))

    def cloud(self, points: NDArray[np.float32], colors: NDArray[np.uint8]) -> None:
        """[N, 3] metres in the vehicle frame, with their RGB [N, 3]."""
        self._log("vehicle/points", self._rerun.Points3D(points, colors=colors, radii=POINT_RADIUS))

    def close(self) -> None:
        """Write out what is still kept back."""
        self._rerun.disconnect(recording=self._stream)

    def _log(self, entity: str, what: Any, static: bool = False) -> None:
        self._rerun.log(entity, what, static=static, recording=self._stream)

    def _spawn(self) -> None:
        try:
            self._rerun.spawn(recording=self._stream)
        except RuntimeError as error:
            raise ConfigError(
                f"Rerun cannot start its viewer: {error}; start it yourself on a machine with a screen (rerun) "
                "and give --connect HOST:9876, or write a file with --save drive.rrd"
            ) from error


def write_recording(drive: Iterable[Snapshot], path: Path) -> int:
    """Write the sweeps as ``.rrd``, everything at the stamp of its sweep; returns their number.

    Raises ConfigError where Rerun is not installed.
    """
    recording = Recording(save=path)
    count = 0
    for snapshot in drive:
        recording.at(snapshot.stamp_ns)
        for name, image in snapshot.images.items():
            recording.camera(_sized(snapshot, name, image.shape), IMAGE)
            recording.image(name, image)
        for name, depth in snapshot.depths.items():
            recording.camera(_sized(snapshot, name, depth.shape), DEPTH)
            recording.depth(name, depth)
        recording.cloud(snapshot.points, snapshot.colors)
        count += 1
    recording.close()
    return count


def _sized(snapshot: Snapshot, name: str, shape: tuple[int, ...]) -> Camera:
    """The camera at the size of a picture of shape [H, W, ...]."""
    return snapshot.rig[name].resized((int(shape[0]), int(shape[1])))


def socket_address(viewer: str) -> str:
    """IP:PORT of a viewer at HOST:PORT, because Rerun looks no names up; raises ConfigError."""
    host, _, port = viewer.rpartition(":")
    try:
        address, number = socket.gethostbyname(host), int(port)
        if not 0 < number < 2**16:
            raise ValueError(f"there is no port {number}")
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the viewer must be HOST:PORT of a machine that is known here, as laptop:9876, got '{viewer}': {error}"
        ) from error
    return f"{address}:{number}"


def _rerun() -> Any:
    try:
        return importlib.import_module("rerun")
    except ImportError as error:
        raise ConfigError(
            "the viewer Rerun and its recordings (.rrd) need rerun-sdk, which is not installed: "
            "pip install -r requirements/viewer.txt (installed with ROS 2: pip install --break-system-packages "
            "--ignore-installed -r $(ros2 pkg prefix --share fsmde_ros)/requirements/viewer.txt)"
        ) from error
