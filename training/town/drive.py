"""A drive through the town: what the rig and the LiDAR of a car see, as sweeps.

Timing follows the nuScenes cars: the LiDAR turns without pause; each frame of the cameras belongs
to one turn (at 12 Hz of 20 the turns are chosen as evenly as possible), and each camera is
triggered while the LiDAR passes its optical axis. Every view has the pose of the car at its own
time, rounded to the microsecond like the stamps of nuScenes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fsmde_ros.errors import BackendError, ConfigError
from fsmde_ros.rig import Rig
from fsmde_ros.sweep import LidarScan, Sweep, View
from training.town.camera import render_views
from training.town.lidar import DDAD_LIDAR, HDL32E, SpinningLidar, scan_turn
from training.town.rigs import ddad_rig, nuscenes_rig, random_rig, spinning_offsets_s, unusual_rig
from training.town.settings import TownSettings
from training.town.world import build_world

# Every drive begins at 2020-01-01 00:00 UTC: stamps must not depend on when it was rendered.
EPOCH_NS = 1_577_836_800_000_000_000
# DDAD's cameras fire together, about this long before the stamp of the LiDAR scan.
SIMULTANEOUS_OFFSET_S = -0.009

Firing = Literal["spinning", "simultaneous"]


@dataclass(frozen=True, eq=False)
class TownSweep:
    """A sweep and the truth about it.

    Attributes:
        sweep: what the sensors saw.
        depth: by camera, [H, W] float32, metres along the optical axis, +inf = sky.
    """

    sweep: Sweep
    depth: Mapping[str, NDArray[np.float32]]


class TownDrive:
    """A drive of ``len(drive)`` sweeps, rendered when asked for.

    The same arguments give the same bytes, whatever was asked for before. A drive can be sent to
    another process; it is built anew there from its arguments.
    """

    def __init__(
        self,
        seed: int,
        settings: TownSettings | None = None,
        rig: Rig | None = None,
        duration_s: float = 10.0,
        camera_rate_hz: float = 12.0,
        lidar_rate_hz: float = 20.0,
        device: str = "cpu",
        lidar: SpinningLidar = HDL32E,
        firing: Firing = "spinning",
    ) -> None:
        """Lay out the town; nothing is rendered yet.

        Args:
            seed: decides the town and everything in it.
            settings: kinds of towns; the training settings by default.
            rig: the cameras, with the size that is rendered; nuScenes at 360 x 640 by default.
            duration_s: length of the drive, seconds.
            camera_rate_hz: frames of each camera per second; at most ``lidar_rate_hz``.
            lidar_rate_hz: turns of the LiDAR per second.
            device: torch device that renders.
            lidar: the LiDAR on the roof.
            firing: "spinning": each camera as the LiDAR passes it; "simultaneous": all together.

        Raises:
            ConfigError: rates, duration or firing that make no drive.
            BackendError: ``device`` is not there.
        """
        if not 0 < camera_rate_hz <= lidar_rate_hz:
            raise ConfigError(
                f"camera_rate_hz must be above 0 and at most lidar_rate_hz ({lidar_rate_hz:g}), got {camera_rate_hz:g}"
            )
        if duration_s * lidar_rate_hz < 1:
            raise ConfigError(
                f"duration_s must hold at least one turn of the LiDAR ({1 / lidar_rate_hz:g} s), got {duration_s:g}"
            )
        if firing not in ("spinning", "simultaneous"):
            raise ConfigError(f"firing must be 'spinning' or 'simultaneous', got '{firing}'")
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise BackendError(f"device '{device}' is not available on this machine; use device 'cpu'")
        self.seed = seed
        self.settings = settings if settings is not None else TownSettings()
        self.rig = rig if rig is not None else nuscenes_rig((360, 640))
        self.duration_s = duration_s
        self.camera_rate_hz = camera_rate_hz
        self.lidar_rate_hz = lidar_rate_hz
        self.device = device
        self.lidar = lidar
        self.firing: Firing = firing
        self.scan_count = int(np.floor(duration_s * lidar_rate_hz + 1e-9))
        self.world = build_world(seed, self.settings, duration_s + 0.5, device)
        self._offsets_s = self._firing_offsets_s()

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (self.seed, self.settings, self.rig, self.duration_s, self.camera_rate_hz, self.lidar_rate_hz)
        return TownDrive, (*arguments, self.device, self.lidar, self.firing)

    def __len__(self) -> int:
        """Number of sweeps."""
        return int(np.ceil((self.scan_count - 0.5) * self.camera_rate_hz / self.lidar_rate_hz - 1e-9))

    def __iter__(self) -> Iterator[Sweep]:
        return (self.sweep(i) for i in range(len(self)))

    def scan_index(self, i: int) -> int:
        """Index of the turn of the LiDAR that sweep ``i`` belongs to, the nearest in time."""
        if not 0 <= i < len(self):
            raise IndexError(f"the drive has sweeps 0 to {len(self) - 1}, got {i}")
        return int(np.floor(i * self.lidar_rate_hz / self.camera_rate_hz + 0.5))

    def scan_stamp_ns(self, k: int) -> int:
        """Stamp of turn ``k``: its end, nanoseconds, rounded to microseconds."""
        return EPOCH_NS + round((k + 1) / self.lidar_rate_hz * 1e6) * 1000

    def view_stamps_ns(self, i: int) -> dict[str, int]:
        """When each camera fires in sweep ``i``, nanoseconds, rounded to microseconds."""
        end = self.scan_stamp_ns(self.scan_index(i))
        return {name: end + round(offset * 1e6) * 1000 for name, offset in self._offsets_s.items()}

    def vehicle_to_map(self, stamp_ns: int) -> NDArray[np.float64]:
        """Pose [4, 4] of the car at a stamp."""
        return np.asarray(self.world.vehicle_to_map(seconds(stamp_ns)), dtype=np.float64)

    def scan(self, k: int) -> LidarScan:
        """Turn ``k`` of the LiDAR, compensated to its end."""
        if not 0 <= k < self.scan_count:
            raise IndexError(f"the drive has turns 0 to {self.scan_count - 1} of the LiDAR, got {k}")
        stamp_ns = self.scan_stamp_ns(k)
        rng = np.random.default_rng([self.seed, k])
        turn = scan_turn(self.world, self.lidar, seconds(stamp_ns), 1 / self.lidar_rate_hz, rng)
        return LidarScan(
            points_vehicle=turn.points_vehicle,
            stamp_ns=stamp_ns,
            intensity=turn.intensity,
            ring=turn.ring,
            vehicle_to_map=self.vehicle_to_map(stamp_ns),
            sensor_to_vehicle=self.lidar.sensor_to_vehicle,
            name=self.lidar.name,
        )

    def render(self, i: int) -> tuple[dict[str, View], dict[str, NDArray[np.float32]]]:
        """Views of sweep ``i`` and the dense depth of each, [H, W] metres, +inf = sky."""
        stamps = self.view_stamps_ns(i)
        poses = {name: self.vehicle_to_map(stamp) for name, stamp in stamps.items()}
        requests = [(seconds(stamps[camera.name]), camera, poses[camera.name]) for camera in self.rig.cameras]
        views, depths = {}, {}
        for camera, (image, depth) in zip(self.rig.cameras, render_views(self.world, requests), strict=True):
            views[camera.name] = View(image, stamps[camera.name], poses[camera.name])
            depths[camera.name] = depth
        return views, depths

    def town_sweep(self, i: int) -> TownSweep:
        """Sweep ``i`` with the dense depth of its views; one rendering for both."""
        k = self.scan_index(i)
        views, depths = self.render(i)
        return TownSweep(Sweep(self.rig, self.scan_stamp_ns(k), views, self.scan(k)), depths)

    def sweep(self, i: int) -> Sweep:
        """Sweep ``i``: images, stamps, poses and the LiDAR scan nearest in time."""
        return self.town_sweep(i).sweep

    def dense_depth(self, i: int) -> dict[str, NDArray[np.float32]]:
        """True depth of the views of sweep ``i``, by camera, [H, W] metres, +inf = sky."""
        return self.render(i)[1]

    def _firing_offsets_s(self) -> dict[str, float]:
        if self.firing == "simultaneous":
            return dict.fromkeys(self.rig.names, SIMULTANEOUS_OFFSET_S)
        return spinning_offsets_s(self.rig.cameras, 1 / self.lidar_rate_hz, np.radians(self.lidar.start_azimuth))


def nuscenes_drive(seed: int, size: tuple[int, int], settings: TownSettings | None = None, **options: Any) -> TownDrive:
    """A drive with the nuScenes rig at ``size`` (H, W): 12 Hz cameras, 32 beams at 20 Hz."""
    return TownDrive(seed, settings, nuscenes_rig(size), **options)


def ddad_drive(seed: int, size: tuple[int, int], settings: TownSettings | None = None, **options: Any) -> TownDrive:
    """A drive with the DDAD rig at ``size`` (H, W): all at 10 Hz, cameras together, 200 m."""
    fixed = {"camera_rate_hz": 10.0, "lidar_rate_hz": 10.0, "lidar": DDAD_LIDAR, "firing": "simultaneous"}
    return TownDrive(seed, settings, ddad_rig(size), **{**fixed, **options})


def random_drive(seed: int, size: tuple[int, int], settings: TownSettings | None = None, **options: Any) -> TownDrive:
    """A drive with cameras of another car, drawn by its seed: square pixels, whatever the shape of ``size`` (H, W)."""
    return TownDrive(seed, settings, random_rig(np.random.default_rng([seed, 8]), size), **options)


def unusual_drive(seed: int, size: tuple[int, int], settings: TownSettings | None = None, **options: Any) -> TownDrive:
    """A drive with cameras as no car has them, drawn by its seed; likewise."""
    return TownDrive(seed, settings, unusual_rig(np.random.default_rng([seed, 9]), size), **options)


def seconds(stamp_ns: int) -> float:
    """Time in the town, seconds since the drive began."""
    return (stamp_ns - EPOCH_NS) * 1e-9
