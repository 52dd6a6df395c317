"""The stages around the network: what the node does to a sweep before and after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from fsmde_ros import images
from fsmde_ros.benchmark.timing import interleave
from fsmde_ros.benchmark.workload import CAMERA_SIZE, encoded_sweep
from fsmde_ros.estimator import Estimator
from fsmde_ros.fusion import FusionConfig, fuse
from fsmde_ros.sweep import EncodedImage

CLOUD = FusionConfig(max_relative_stddev=0.3, voxel_m=0.1)  # the node's defaults
LENS = np.array([-0.3, 0.1, 0.001, -0.001])  # a wide-angle one


def measure_stages(estimator: Estimator, views: int, rounds: int) -> list[dict[str, Any]]:
    """Rows of stage and time for sweeps of ``views`` JPEG of 1600x900: each stage alone, then the whole.

    Each with its share of the network's time.
    """
    sweep = encoded_sweep(views)
    lens = tuple(replace(camera, distortion=LENS, distortion_model="plumb_bob") for camera in sweep.rig.cameras)
    through_lens = replace(sweep, rig=replace(sweep.rig, cameras=lens))
    encoded = [view.image for view in sweep.views.values() if isinstance(view.image, EncodedImage)]
    pictures = [images.decode(image) for image in encoded]
    prepared = estimator.prepare(sweep)
    depth = estimator.infer(prepared)
    colours = prepared.colors()
    height, width = CAMERA_SIZE
    size = estimator.card.input_size
    network = f"network, {estimator.backend.name}"
    stages: dict[str, Callable[[], object]] = {
        f"decode {views} JPEG of {width}x{height}, one thread": lambda: [images.decode(image) for image in encoded],
        f"resize them to {size[1]}x{size[0]}, one thread": lambda: [images.resize(p, size) for p in pictures],
        "decode and resize, in threads": lambda: estimator.prepare(sweep),
        "the same and undo a lens": lambda: estimator.prepare(through_lens),
        network: lambda: estimator.infer(prepared),
        "fuse the cloud": lambda: fuse(depth, colours, CLOUD),
        "all but the network": lambda: (estimator.prepare(sweep), fuse(depth, colours, CLOUD)),
        "all: JPEG to depth and cloud": lambda: fuse(estimator(sweep), colours, CLOUD),
    }
    times = interleave(stages, rounds)
    whole = times[network].median_ms
    return [
        {"size": size, "stage": name, **asdict(times[name]), "share_of_network": times[name].median_ms / whole}
        for name in stages
    ]
