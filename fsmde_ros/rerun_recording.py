"""A drive with its depth as a recording for the viewer Rerun, which is optional (requirements/viewer.txt)."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.errors import ConfigError
from fsmde_ros.picture import Snapshot

APPLICATION = "fsmde_ros"
JPEG_QUALITY = 85
POINT_RADIUS = 0.05  # metres


def write_recording(drive: Iterable[Snapshot], path: Path) -> int:
    """Write the sweeps as ``.rrd``: images, depth (metres) and the cloud, each where it is; returns their number.

    Entities: ``vehicle/<camera>/image``, ``vehicle/<camera>/depth`` and ``vehicle/points``, on the timeline
    ``stamp``. The images are under the camera's own pinhole, the depth under that of its size.
    Raises ConfigError where Rerun is not installed.
    """
    rerun = _rerun()
    recording = rerun.new_recording(APPLICATION)
    rerun.save(path, recording=recording)
    rerun.log("vehicle", rerun.ViewCoordinates.FLU, static=True, recording=recording)
    count = 0
    for snapshot in drive:
        rerun.set_time_nanos("stamp", snapshot.stamp_ns, recording=recording)
        _log(rerun, recording, snapshot)
        count += 1
    rerun.disconnect(recording=recording)
    return count


def _log(rerun: Any, recording: Any, snapshot: Snapshot) -> None:
    for name, image in snapshot.images.items():
        _log_camera(rerun, recording, snapshot, name, "image", image.shape[:2])
        compressed = rerun.Image(image).compress(jpeg_quality=JPEG_QUALITY)
        rerun.log(f"vehicle/{name}/image", compressed, recording=recording)
    for name, depth in snapshot.depths.items():
        _log_camera(rerun, recording, snapshot, name, "depth", depth.shape)
        # Rerun knows 0 as "no depth", and neither NaN nor infinity.
        shown: NDArray[np.float32] = np.where(np.isfinite(depth), depth, 0).astype(np.float32)
        rerun.log(f"vehicle/{name}/depth", rerun.DepthImage(shown, meter=1.0), recording=recording)
    cloud = rerun.Points3D(snapshot.points, colors=snapshot.colors, radii=POINT_RADIUS)
    rerun.log("vehicle/points", cloud, recording=recording)


def _log_camera(rerun: Any, recording: Any, snapshot: Snapshot, name: str, what: str, size: Any) -> None:
    """Where a picture is: the pose of the camera, and its pinhole at the size of the picture."""
    camera = snapshot.rig[name].resized((int(size[0]), int(size[1])))
    pose = camera.camera_to_vehicle
    place = rerun.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3])
    pinhole = rerun.Pinhole(
        image_from_camera=camera.intrinsics, resolution=camera.size[::-1], camera_xyz=rerun.ViewCoordinates.RDF
    )
    rerun.log(f"vehicle/{name}", place, recording=recording)
    rerun.log(f"vehicle/{name}/{what}", pinhole, recording=recording)


def _rerun() -> Any:
    try:
        return importlib.import_module("rerun")
    except ImportError as error:
        raise ConfigError(
            "a recording for Rerun (.rrd) needs rerun-sdk, which is not installed: "
            "pip install -r requirements/viewer.txt"
        ) from error
