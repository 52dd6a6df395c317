"""The stages around the network: what the node does to a sweep before and after it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fsmde_ros import images
from fsmde_ros.benchmark.timing import interleave
from fsmde_ros.benchmark.workload import CAMERA_SIZE, encoded_sweep
from fsmde_ros.estimator import DECODERS, Estimator
from fsmde_ros.fusion import FusionConfig, fuse
from fsmde_ros.geometry import rigid
from fsmde_ros.motion_stereo import BASELINES_M, Keyframe, MotionStereo, keyframe
from fsmde_ros.stamps import NS
from fsmde_ros.sweep import EncodedImage, SurroundDepth

CLOUD = FusionConfig(max_relative_stddev=0.3, voxel_m=0.1)  # the node's defaults
LENS = np.array([-0.3, 0.1, 0.001, -0.001])  # a wide-angle one


def spread_decoders(stage: Callable[[], object]) -> object:
    """``stage``, with the threads that decode on cores of their own as far as there are so many.

    The scheduler of a virtual machine may keep them on one core all the same while the others sleep (one of Linux with
    ``sched_vcpu_pack`` did), which says more of the host than of the program.
    """
    cores = sorted(os.sched_getaffinity(0))
    decoders = [thread.native_id for thread in threading.enumerate() if thread.name.startswith(DECODERS)]
    threads = [number for number in decoders if number is not None]
    for index, number in enumerate(threads):
        os.sched_setaffinity(number, {cores[index % len(cores)]})
    try:
        return stage()
    finally:
        for number in threads:
            os.sched_setaffinity(number, cores)


def stage_motion_stereo(
    stereo: MotionStereo, estimate: SurroundDepth, colours: NDArray[np.uint8]
) -> Callable[[], SurroundDepth]:
    """What a sweep is corrected by: keeping its images [V, H, W, 3] and comparing them with earlier ones.

    As if its images had been seen before from 1 m and 4 m behind, at 10 m/s: what they show does not change the work.
    """

    def behind(metres: float) -> Keyframe:
        pose = rigid([1, 0, 0, 0], [-metres, 0, 0])
        return keyframe(estimate.rig, -round(metres / 10 * NS), colours, dict.fromkeys(estimate.rig.names, pose))

    earlier = [behind(metres) for metres in BASELINES_M]
    return lambda: stereo.correct(estimate, behind(0), earlier)


def measure_stages(estimator: Estimator, views: int, rounds: int) -> list[dict[str, Any]]:
    """Rows of stage and time for sweeps of ``views`` JPEG of 1600x900: each stage alone, then the whole.

    Each with its share of the network's time.
    """
    sweep = encoded_sweep(views)
    lens = tuple(replace(camera, distortion=LENS, distortion_model="plumb_bob") for camera in sweep.rig.cameras)
    through_lens = replace(sweep, rig=replace(sweep.rig, cameras=lens))
    encoded = [view.image for view in sweep.views.values() if isinstance(view.image, EncodedImage)]
    size = estimator.card.input_size
    reduction = images.largest_reduction(CAMERA_SIZE, size)
    pictures = [images.decode(image, reduction=reduction) for image in encoded]
    prepared = estimator.prepare(sweep)
    depth = estimator.infer(prepared)
    colours = prepared.colors()
    height, width = CAMERA_SIZE
    reduced = f"{views} JPEG of {width}x{height} to {pictures[0].shape[1]}x{pictures[0].shape[0]}"
    network = f"network, {estimator.backend.name}"

    def around() -> object:
        return estimator.prepare(sweep), fuse(depth, colours, CLOUD)

    stages: dict[str, Callable[[], object]] = {
        f"decode {reduced}, one thread": lambda: [images.decode(image, reduction=reduction) for image in encoded],
        f"resize them to {size[1]}x{size[0]}, one thread": lambda: [images.resize(p, size) for p in pictures],
        "decode and resize, in threads": lambda: estimator.prepare(sweep),
        "the same and undo a lens": lambda: estimator.prepare(through_lens),
        network: lambda: estimator.infer(prepared),
        "fuse the cloud": lambda: fuse(depth, colours, CLOUD),
        "all but the network": around,
        "all: JPEG to depth and cloud": lambda: fuse(estimator(sweep), colours, CLOUD),
    }
    with closing(MotionStereo()) as stereo:
        stages["motion stereo, two earlier sweeps"] = stage_motion_stereo(stereo, depth, colours)
        if hasattr(os, "sched_setaffinity"):
            stages["all but the network, a core for each decoder"] = partial(spread_decoders, around)
        times = interleave(stages, rounds)
    whole = times[network].median_ms
    return [
        {"size": size, "stage": name, **asdict(times[name]), "share_of_network": times[name].median_ms / whole}
        for name in stages
    ]
