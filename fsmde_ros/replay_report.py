"""From depth images, LiDAR scans and sweep reports, in whatever order they come, to one report.

Protocol (SurroundDepth's): the scan nearest in time to a depth image, of several LiDARs that of each, is
moved to the pose of the vehicle at the image's stamp and projected with the image's own intrinsics; the
prediction is sampled between its pixels at exactly that place, which is what enlarging it to the original size
and taking the pixel comes to. Scores are averaged over images, then over cameras (``metrics``).
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.errors import ConfigError
from fsmde_ros.geometry import ground_plane_depth_at, transform, unproject
from fsmde_ros.metrics import ScoreBoard, median_scale, sample_bilinear, score_depth
from fsmde_ros.pose_track import PoseTrack
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sweep import LidarScan, Sweep, View, lidar_in_view

SCANS_KEPT = 100  # of each LiDAR
IMAGES_WAITING = 60
POSES_KEPT = 20_000
UNPUBLISHED = ("dropped", "skipped")  # states of sweeps; skipped are those that max_rate_hz wants left out


@dataclass(frozen=True)
class ScoringConfig:
    """What counts.

    Attributes:
        min_depth, max_depth: range of the ground truth, metres; predictions are clamped to it.
        tolerance_s: largest distance in time between a depth image and its scan, seconds; the cameras of
            nuScenes fire up to a whole turn of the LiDAR, 50 ms, before the stamp of its scan.
        baseline_cap: depth of the ground-plane baseline where the ground is farther, metres.
    """

    min_depth: float = 0.1
    max_depth: float = 80.0
    tolerance_s: float = 0.06
    baseline_cap: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.min_depth < self.max_depth < math.inf:
            raise ConfigError(
                f"depth range must be 0 < min < max metres, both finite, got {self.min_depth}, {self.max_depth}"
            )
        if not 0 <= self.tolerance_s < math.inf:
            raise ConfigError(f"tolerance must be at least 0 seconds and finite, got {self.tolerance_s}")
        if not 0 < self.baseline_cap < math.inf:
            raise ConfigError(f"baseline_cap must be above 0 metres and finite, got {self.baseline_cap}")


@dataclass(frozen=True, eq=False)
class DepthImage:
    """A published depth image [H, W] in metres and the camera (at its size) it belongs to."""

    camera: Camera
    stamp_ns: int
    depth: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class ScoredPoints:
    """The points of a scan that one depth image was compared with.

    Attributes:
        stamp_ns: of the image.
        points_vehicle: [N, 3] metres, in the vehicle frame at that stamp.
        truth, predicted: [N] metres along the optical axis; a prediction may be NaN (no value) or +inf.
    """

    stamp_ns: int
    points_vehicle: NDArray[np.float64]
    truth: NDArray[np.float64]
    predicted: NDArray[np.float64]


@dataclass
class ReplayScores:
    """Scores depth images against the scan nearest in time, of each LiDAR, once these scans must be there.

    Attributes:
        ground_z: height of the road in the vehicle frame, metres, for the baseline.
        listener: is given the points of every image that is scored.
    """

    ground_z: float = 0.0
    config: ScoringConfig = field(default_factory=ScoringConfig)
    listener: Callable[[ScoredPoints], None] | None = None

    def __post_init__(self) -> None:
        self.metric, self.baseline, self.median = ScoreBoard(), ScoreBoard(), ScoreBoard()
        self.counts = {
            "scans": 0,
            "poses": 0,
            "images": 0,
            "without_scan": 0,
            "without_pose": 0,
            "pixels_without_prediction": 0,
        }
        self._scans: dict[str, deque[LidarScan]] = {}
        self._poses = PoseTrack(limit=POSES_KEPT)
        self._newest_pose: int | None = None
        self._waiting: deque[DepthImage] = deque()

    def add_pose(self, stamp_ns: int, vehicle_to_map: NDArray[np.float64]) -> None:
        """A pose of the vehicle, [4, 4]."""
        self.counts["poses"] += 1
        self._poses.add(stamp_ns, vehicle_to_map)
        self._newest_pose = max(stamp_ns, self._newest_pose or stamp_ns)
        self._score_ripe()

    def add_scan(self, stamp_ns: int, points_vehicle: NDArray[np.float64], lidar: str = "lidar") -> None:
        """A scan of the LiDAR of that name, [N, 3] metres in the vehicle frame at its stamp."""
        self.counts["scans"] += 1
        self._scans.setdefault(lidar, deque(maxlen=SCANS_KEPT)).append(LidarScan(points_vehicle, stamp_ns))
        self._score_ripe()

    def add_depth(self, image: DepthImage) -> None:
        """A depth image; it is scored when no nearer scan and no nearer pose can come any more."""
        self._waiting.append(image)
        self._score_ripe()

    def finish(self) -> None:
        """Score what waits for scans that never came."""
        while self._waiting:
            self._score(self._waiting.popleft())

    def _score_ripe(self) -> None:
        """Score the images whose scan and whose poses must be there by now, and those that waited too long.

        Of a drive that has no poses every image waits so long, and of one whose second LiDAR went silent: they may only
        be late.
        """
        while self._waiting and (self._is_ripe(self._waiting[0].stamp_ns) or len(self._waiting) > IMAGES_WAITING):
            self._score(self._waiting.popleft())

    def _is_ripe(self, stamp_ns: int) -> bool:
        if self._newest_pose is None or not self._scans:
            return False
        newest = (max(scan.stamp_ns for scan in scans) for scans in self._scans.values())
        known_until = min(*newest, self._newest_pose)
        return stamp_ns <= known_until - round(self.config.tolerance_s * 1e9)

    def _score(self, image: DepthImage) -> None:
        self.counts["images"] += 1
        scans = self._nearest_scans(image.stamp_ns)
        if not scans:
            self.counts["without_scan"] += 1
            return
        config, name = self.config, image.camera.name
        pixels, truth = self._project(scans, image)
        valid = (truth >= config.min_depth) & (truth <= config.max_depth)
        pixels, truth = pixels[valid], truth[valid]
        predicted = sample_bilinear(image.depth, pixels)
        missing = np.isnan(predicted)
        self.counts["pixels_without_prediction"] += int(np.count_nonzero(missing))
        limits = (config.min_depth, config.max_depth)
        self.metric.add(name, score_depth(predicted, truth, *limits))
        camera = image.camera
        if self.listener is not None:
            points = transform(camera.camera_to_vehicle, unproject(camera.intrinsics, pixels, truth))
            self.listener(ScoredPoints(image.stamp_ns, points, truth, predicted))
        plane = ground_plane_depth_at(
            camera.intrinsics, camera.camera_to_vehicle, pixels, self.ground_z, config.baseline_cap
        )
        self.baseline.add(name, score_depth(plane, truth, *limits))
        if not missing.all():
            scale = median_scale(np.clip(predicted[~missing], *limits), truth[~missing])
            self.median.add(name, score_depth(predicted * scale, truth, *limits))

    def _nearest_scans(self, stamp_ns: int) -> list[LidarScan]:
        """Of each LiDAR the scan nearest in time, where one is near enough."""
        nearest = [min(scans, key=lambda scan: abs(scan.stamp_ns - stamp_ns)) for scans in self._scans.values()]
        return [scan for scan in nearest if abs(scan.stamp_ns - stamp_ns) <= self.config.tolerance_s * 1e9]

    def _project(
        self, scans: Sequence[LidarScan], image: DepthImage
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Pixels [N, 2] and depth [N] of the points of all scans, each moved to the image's stamp by itself."""
        pose_of_image = self._poses.at(image.stamp_ns)
        moved = [replace(scan, vehicle_to_map=self._poses.at(scan.stamp_ns)) for scan in scans]
        to_move = [scan for scan in moved if scan.stamp_ns != image.stamp_ns]
        if any(pose_of_image is None or scan.vehicle_to_map is None for scan in to_move):
            self.counts["without_pose"] += 1
        rig, name = Rig((image.camera,)), image.camera.name
        views = {name: View(np.zeros((0, 0, 3), np.uint8), image.stamp_ns, pose_of_image)}
        found = [lidar_in_view(Sweep(rig, image.stamp_ns, views, scan), name, self.config.min_depth) for scan in moved]
        return np.concatenate([pixels for pixels, _ in found]), np.concatenate([depth for _, depth in found])


@dataclass(frozen=True)
class SweepReport:
    """One message of ``~/sweep``: what became of a sweep.

    Attributes:
        stamp_ns: reference stamp of the sweep.
        state: "complete", "partial", or one of ``UNPUBLISHED``.
        missing: cameras without a view.
        total_ms: from the arrival of the first view to everything published; None if not published.
        arrived: wall time of the report, seconds of a steady clock.
    """

    stamp_ns: int
    state: str
    missing: tuple[str, ...]
    total_ms: float | None
    arrived: float


def summarise_sweeps(reports: Sequence[SweepReport], frames_in: Mapping[str, int]) -> dict[str, Any]:
    """The ``sweeps``, ``rate_hz`` and ``latency_ms`` of the report.

    ``frames_in``: CameraInfo that each camera sent, mostly one with every frame. ``in`` is the largest of them, so that
    a sweep that never reached the node counts as lost. Where there are fewer than reports, as of drivers that send
    CameraInfo now and then, ``in`` is the number of reports, and how many were lost is not known: None.
    """
    counts = Counter(report.state for report in reports)
    wanted = sum(counts[state] for state in ("complete", "partial", "skipped"))
    heard = max(frames_in.values(), default=0)
    sent = max(len(reports), heard)
    missing: dict[str, int] = {}
    for report in reports:
        for name in report.missing if report.state != "skipped" else ():
            missing[name] = missing.get(name, 0) + 1
    arrived = [report.arrived for report in reports if report.state not in UNPUBLISHED]
    span = max(arrived) - min(arrived) if arrived else 0.0
    latencies = [report.total_ms for report in reports if report.total_ms is not None]
    percentiles = np.percentile(latencies, (50, 95, 99)).tolist() if latencies else [None] * 3
    return {
        "sweeps": {
            "in": sent,
            "complete": counts["complete"],
            "partial": counts["partial"],
            "skipped": counts["skipped"],
            "lost": max(0, sent - wanted) if sent == heard else None,
            "missing_views": missing,
        },
        "rate_hz": (len(arrived) - 1) / span if span > 0 else None,
        "latency_ms": dict(zip(("p50", "p95", "p99"), percentiles, strict=True)),
    }


def build_report(scores: ReplayScores, reports: Sequence[SweepReport], frames_in: Mapping[str, int]) -> dict[str, Any]:
    """Everything that was measured, under names that stay; numbers that do not exist are None."""

    def boards(board: ScoreBoard) -> dict[str, Any]:
        return {name: score.as_dict() for name, score in sorted(board.per_camera().items())}

    return {
        "overall": scores.metric.overall().as_dict(),
        "views": boards(scores.metric),
        "baseline": {
            "ground_plane": scores.baseline.overall().as_dict(),
            "views": boards(scores.baseline),
        },
        "aligned": {"median": scores.median.overall().as_dict()},
        "protocol": {
            "min_depth": scores.config.min_depth,
            "max_depth": scores.config.max_depth,
            "tolerance_s": scores.config.tolerance_s,
            "baseline_cap": scores.config.baseline_cap,
            **scores.counts,
        },
        **summarise_sweeps(reports, frames_in),
    }


COLUMNS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "d1", "d2", "d3")


def format_report(report: Mapping[str, Any]) -> str:
    """The report as a table for a terminal."""
    rows = [*report["views"].items(), ("overall", report["overall"])]
    rows += [("overall, median-scaled", report["aligned"]["median"])]
    rows += [(f"ground plane {name}", row) for name, row in report["baseline"]["views"].items()]
    rows += [("ground plane", report["baseline"]["ground_plane"])]
    width = max(30, *(len(name) + 1 for name, _ in rows))
    lines = [" " * width + "".join(f"{name:>10}" for name in COLUMNS) + f"{'points':>12}"]
    for name, row in rows:
        values = "".join(f"{_number(row[column], 3):>10}" for column in COLUMNS)
        lines.append(f"{name:{width}}{values}{row['n']:>12}")
    sweeps, latency = report["sweeps"], report["latency_ms"]
    lines.append(
        f"sweeps: {sweeps['in']} in, {sweeps['complete']} complete, {sweeps['partial']} partial, "
        + (f"{sweeps['skipped']} skipped, " if sweeps["skipped"] else "")
        + f"{_number(sweeps['lost'], 0)} lost; {_number(report['rate_hz'], 1)} Hz; latency ms "
        + ", ".join(f"{name} {_number(latency[name], 0)}" for name in ("p50", "p95", "p99"))
    )
    without_pose, images = report["protocol"]["without_pose"], report["protocol"]["images"]
    if without_pose:
        lines.append(
            f"of {without_pose} of {images} images the LiDAR's points were not moved to the image's stamp: no pose of "
            "the vehicle there; play its odometry (--odom-topic)"
        )
    return "\n".join(lines)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
