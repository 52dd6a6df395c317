"""int8 for OpenVINO: NNCF's post-training quantisation, calibrated on sweeps of the town.

Only the encoder and the decoder are quantised, where nearly all the work is. Rays, attention, bins
and upsampling keep float: they carry the metres. So do the stem and the first stage, whose few channels have ranges
too far apart for one scale: that takes a third off the change of the depth, at no cost of time.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from fsmde_ros.backends.openvino import PIP
from fsmde_ros.backends.padded import Feed, empty_feed
from fsmde_ros.errors import BackendError
from fsmde_ros.estimator import PreparedSweep

PIP_NNCF = "pip install nncf==3.4.0"
KEPT_FLOAT = (  # operations, by the module of the student they come from
    r"^/student/(?!encoder/|decoder/).*",
    r"^/student/encoder/(stem|stages\.0)/.*",
    r"^/student/decoder/(.*/)?norm/.*",  # statistics of a whole map
)


def feed_of(sweep: PreparedSweep, views: int) -> Feed:
    """Inputs of the graph for ``views`` views; those that the sweep lacks are missing."""
    feed, rig = empty_feed(views, (sweep.images.shape[2], sweep.images.shape[3])), sweep.network_rig
    count = min(len(rig), views)
    feed["images"][0, :count] = sweep.images[:count]
    feed["intrinsics"][0, :count] = rig.intrinsics()[:count]
    feed["camera_to_vehicle"][0, :count] = rig.camera_to_vehicle()[:count]
    feed["ground_z"][0] = rig.ground_z
    feed["present"][0, :count] = True
    return feed


def quantise(graph: Path, feeds: Iterable[Feed], path: Path) -> None:
    """Write the quantised form of an ONNX file to ``path`` (``.xml``, with a ``.bin`` beside it).

    Raises BackendError where OpenVINO or NNCF is not installed.
    """
    try:
        import nncf
        import openvino
    except ImportError as error:
        raise BackendError(f"int8 needs OpenVINO and NNCF ({error}); {PIP}; {PIP_NNCF}") from error
    nncf.set_log_level(logging.WARNING)  # it names every operation that it leaves alone
    samples = [dict(feed) for feed in feeds]
    quantised = nncf.quantize(
        openvino.Core().read_model(graph),
        nncf.Dataset(samples),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(samples),
        ignored_scope=nncf.IgnoredScope(patterns=[*KEPT_FLOAT]),
    )
    openvino.save_model(quantised, path, compress_to_fp16=False)
