"""From the messages of a sweep to its depth: what the worker thread does."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from fsmde_ros.bit_depth import BitDepth
from fsmde_ros.ego_motion import largest_move_m, rig_at_reference
from fsmde_ros.errors import ImageError
from fsmde_ros.estimator import Estimator, PreparedSweep
from fsmde_ros.images import MAX_PIXELS, encoded_size
from fsmde_ros.motion_stereo import MotionStereo, keyframe
from fsmde_ros.node.diagnostics import REPLACED, STOPPED, UNUSABLE, Monitor, SweepReport
from fsmde_ros.node.ego_motion import EgoMotion
from fsmde_ros.node.live_rig import LiveRig
from fsmde_ros.node.messages import check_image, compressed_to_encoded, image_to_rgb, stamp_message
from fsmde_ros.node.outputs import Outputs
from fsmde_ros.node.parameters import Settings
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sweep import EncodedImage, SurroundDepth
from fsmde_ros.sweep_assembler import Arrival, AssembledSweep


@dataclass(frozen=True, eq=False)
class ReceivedImage:
    """An image message whose header has been looked at.

    Attributes:
        header: of the message.
        image: what it will be decoded from; None where it cannot be used.
        size: (H, W) in pixels; None where it cannot be read.
        depth: what is known of the bits of its camera.
        problem: why it cannot be used; empty where it can.
        loading: its pixels at the network's input size, where work on it has begun.
        camera: that ``loading`` is for.
    """

    header: Header
    image: EncodedImage | Image | None
    size: tuple[int, int] | None
    depth: BitDepth
    problem: str = ""
    loading: Future[NDArray[np.uint8]] | None = None
    camera: Camera | None = None


@dataclass(frozen=True, eq=False)
class Job:
    """A sweep that is ready to be worked on.

    Attributes:
        stamp_ns: reference stamp.
        rig: the cameras that can be used.
        views: their messages, by camera; empty where none can be used.
        refused: why other cameras' messages cannot be used.
        missing: cameras without a message.
        first_arrival: of the first message, seconds of ``time.monotonic``.
    """

    stamp_ns: int
    rig: Rig | None
    views: Mapping[str, Arrival[ReceivedImage]]
    refused: Mapping[str, str]
    missing: tuple[str, ...]
    first_arrival: float

    def report(self, state: Literal["dropped", "skipped"], reason: str) -> SweepReport:
        """The report of this sweep when it is not published."""
        missing = (*self.views, *self.refused, *self.missing)
        return SweepReport(stamp_message(self.stamp_ns), (), missing, reason, state)


def receive(message: CompressedImage | Image, depth: BitDepth) -> ReceivedImage:
    """Look at the header of an image; what cannot be used keeps its place in the sweep, with the reason.

    So a camera that sends garbage neither makes its sweeps wait for it, nor is taken for silent. ``depth`` is what is
    known of its bits.
    """
    try:
        if isinstance(message, CompressedImage):
            encoded = compressed_to_encoded(message, depth)
            height, width = encoded_size(encoded)
            if height * width > MAX_PIXELS:
                raise ImageError(
                    f"the image is {width}x{height} by its header, expected at most {MAX_PIXELS} pixels; "
                    "check the camera driver"
                )
            return ReceivedImage(message.header, encoded, (height, width), depth)
        check_image(message)
    except ImageError as error:
        return ReceivedImage(message.header, None, None, depth, str(error))
    return ReceivedImage(message.header, message, (message.height, message.width), depth)


def load(estimator: Estimator, received: ReceivedImage, camera: Camera) -> Future[NDArray[np.uint8]]:
    """The pixels of an image that can be used: of the work that has begun, or begun now."""
    if received.loading is not None and received.camera is camera:
        return received.loading
    image = received.image
    assert image is not None, "a job has only images without a problem"
    pixels = partial(image_to_rgb, image, received.depth) if isinstance(image, Image) else lambda: image
    return estimator.load(pixels, camera)


def begin(estimator: Estimator, received: ReceivedImage, camera: Camera) -> ReceivedImage:
    """The image with work on its pixels begun, before the rest of its sweep is there."""
    return replace(received, loading=load(estimator, received, camera), camera=camera)


def make_job(sweep: AssembledSweep[ReceivedImage], live_rig: LiveRig) -> Job:
    """Take the views whose image and camera can be used and fit each other."""
    rig = live_rig.rig()
    usable: dict[str, Arrival[ReceivedImage]] = {}
    refused: dict[str, str] = {}
    for name, arrival in sweep.views.items():
        problem = arrival.payload.problem or live_rig.problem(name)
        if not problem and rig is not None:
            problem = size_problem(arrival.payload, rig[name])
        if problem:
            refused[name] = problem
        else:
            usable[name] = arrival
    return Job(sweep.stamp_ns, rig, usable, refused, sweep.missing, sweep.first_arrival)


def size_problem(received: ReceivedImage, camera: Camera) -> str:
    """Why an image does not fit its camera; empty where it does."""
    if received.size is None or received.size == camera.size:
        return ""
    (height, width), (own_height, own_width) = camera.size, received.size
    return (
        f"wrong size: the image of '{camera.name}' is {own_width}x{own_height}, its calibration is for "
        f"{width}x{height}; correct the CameraInfo or the rig file"
    )


class Pipeline:
    """Decodes, estimates and publishes one sweep after another, in the worker's thread."""

    def __init__(
        self,
        estimator: Estimator,
        outputs: Outputs,
        monitor: Monitor,
        motion: EgoMotion,
        settings: Callable[[], Settings],
        cameras: tuple[str, ...],
        tell: Callable[[str], None],
        is_behind: Callable[[], bool],
    ) -> None:
        """``cameras``: all of the node, also those that cannot be used now. ``tell``: that the first sweep is out.
        ``is_behind``: whether the next sweep waits already."""
        self._estimator, self._outputs, self._monitor = estimator, outputs, monitor
        self._motion, self._settings, self._cameras, self._tell = motion, settings, cameras, tell
        self._is_behind = is_behind
        self._stereo = MotionStereo()
        self._is_first = True

    def close(self) -> None:
        """End the threads of its own; no more sweeps are worked on."""
        self._stereo.close()

    def work(self, job: Job) -> None:
        """Publish the depth of a sweep that has views, and its report."""
        assert job.rig is not None, "a view is usable by its camera in the rig"
        start = time.monotonic()
        settings = self._settings()
        loading = {name: load(self._estimator, arrival.payload, job.rig[name]) for name, arrival in job.views.items()}
        try:
            prepared = self._estimator.gather(job.rig, job.stamp_ns, loading)
        except ImageError as error:
            for name in job.views:
                self._monitor.refused(name, str(error))
            self._drop(job, UNUSABLE, str(error))
            return
        failed: dict[str, str] = {}
        for name, failure in prepared.failed.items():
            self._monitor.refused(name, str(failure))
            failed[name] = str(failure)
        self._monitor.decoded(prepared.rig.names)
        decoded = time.monotonic()
        # The rig of the job has only the cameras that are calibrated: by it the cloud's views would change places.
        whole = replace(self._estimator.infer(prepared), cameras=self._cameras)
        inferred = time.monotonic()
        headers = {name: arrival.payload.header for name, arrival in job.views.items()}
        stamps = {name: arrival.stamp_ns for name, arrival in job.views.items()}
        cloud_rig = rig_at_reference(whole.rig, stamps, job.stamp_ns, self._motion.pose_at)
        self._motion.served(job.stamp_ns, cloud_rig is not None)
        colors = prepared.colors()
        if cloud_rig is not None and settings.motion_stereo:
            whole = self._compare(whole, colors, cloud_rig)
        depth = limit_range(whole, settings.depth_max_range_m)
        compared = time.monotonic()
        self._outputs.publish_depth(depth, colors, headers, settings, job.rig, cloud_rig)
        published = time.monotonic()
        times = {
            "decode": decoded - start,
            "network": inferred - decoded,
            "stereo": compared - inferred,
            "publish": published - compared,
            "total": published - job.first_arrival,
        }
        self._report(
            job,
            depth.rig.names,
            failed,
            {name: 1000 * value for name, value in times.items()},
            None if cloud_rig is None else largest_move_m(depth.rig, cloud_rig),
        )

    def _compare(self, depth: SurroundDepth, colors: NDArray[np.uint8], cloud_rig: Rig) -> SurroundDepth:
        """The depth corrected by the sweeps before; ``cloud_rig``: mountings that lead to the reference time."""
        pose = self._motion.pose_at(depth.stamp_ns)
        now = keyframe(cloud_rig, depth.stamp_ns, colors, dict.fromkeys(cloud_rig.names, pose))
        # a machine that is too slow for both publishes every sweep, rather than some that are better
        return self._stereo(depth, replace(now, vehicle_to_map=pose), self._motion.pose_at, self._is_behind())

    def unusable(self, job: Job) -> None:
        """A sweep without views, which would take the place of one that has some."""
        self._drop(job, UNUSABLE, "; ".join(f"{name}: {problem}" for name, problem in job.refused.items()))

    def skipped(self, job: Job) -> None:
        """A sweep that was not worked on, because it came too soon after the last one."""
        self._monitor.skipped()
        rate = self._settings().max_rate_hz
        self._outputs.publish_report(
            job.report("skipped", f"skipped: max_rate_hz is {rate:g}, and the last sweep was not long ago")
        )

    def replaced(self, job: Job) -> None:
        """A sweep that was not worked on, because a newer one came."""
        self._drop(job, REPLACED, "replaced by a newer sweep: the machine is slower than the cameras")

    def stopped(self, job: Job) -> None:
        """A sweep that was not worked on, because the node was deactivated."""
        self._drop(job, STOPPED, "the node was deactivated before its turn")

    def failed(self, job: Job, error: Exception) -> None:
        """A sweep whose work raised an exception."""
        self._drop(job, "failed", f"{type(error).__name__}: {error}")

    def _report(
        self,
        job: Job,
        views: tuple[str, ...],
        failed: Mapping[str, str],
        times_ms: dict[str, float],
        motion_m: float | None,
    ) -> None:
        problems = {**dict.fromkeys(job.missing, "no message"), **job.refused, **failed}
        reason = "; ".join(f"{name}: {problem}" for name, problem in problems.items()) or "complete"
        report = SweepReport(
            stamp_message(job.stamp_ns), views, tuple(problems), reason, times_ms=times_ms, motion_m=motion_m
        )
        self._monitor.published(not problems, times_ms["total"])
        self._outputs.publish_report(report)
        if self._is_first:
            self._tell(
                f"the first sweep is published: {len(views)} of {len(self._cameras)} views, "
                f"{times_ms['total']:.0f} ms after the arrival of its first image"
            )
        self._is_first = False

    def _drop(self, job: Job, cause: str, reason: str) -> None:
        self._monitor.dropped(cause, reason)
        self._outputs.publish_report(job.report("dropped", f"{cause}: {reason}"))


def limit_range(depth: SurroundDepth, max_range_m: float) -> SurroundDepth:
    """The same depth, with what is beyond ``max_range_m`` (m; 0: nothing) out of range."""
    if max_range_m <= 0:
        return depth
    beyond = depth.depth > max_range_m
    return replace(
        depth,
        depth=np.where(beyond, np.float32(np.inf), depth.depth),
        stddev=np.where(beyond, np.float32(np.nan), depth.stddev),
    )


def warm_up(estimator: Estimator, views: int) -> float:
    """Run the network once on grey images of ``views`` cameras; seconds it took.

    The first call of a backend allocates and compiles; it must not happen to the first sweep.
    """
    height, width = estimator.card.input_size
    intrinsics = np.array([[width / 2, 0, width / 2], [0, width / 2, height / 2], [0, 0, 1]])
    mounting = np.eye(4)
    mounting[:3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    mounting[2, 3] = 1.5
    rig = Rig(tuple(Camera(f"view_{i}", (height, width), intrinsics, mounting) for i in range(views)))
    grey: NDArray[np.uint8] = np.full((views, 3, height, width), 128, dtype=np.uint8)
    start = time.monotonic()
    estimator.infer(PreparedSweep(rig, 0, grey, {}))
    return time.monotonic() - start
