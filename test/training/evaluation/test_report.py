"""What the hash of the data is of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fsmde_ros.rig import Rig
from fsmde_ros.sweep import Sweep
from training.evaluation.report import DataHash

LIFTED = np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0.1], [0, 0, 0, 1]])


def hash_of(*sweeps: Sweep) -> str:
    digest = DataHash()
    for sweep in sweeps:
        digest.add(sweep)
    return digest.hex()


def with_camera(sweep: Sweep, **changes: object) -> Sweep:
    first, *others = sweep.rig.cameras
    rig = replace(sweep.rig, cameras=(replace(first, **changes), *others))
    return Sweep(rig, 0, sweep.views, sweep.lidar)


def with_view(sweep: Sweep, **changes: object) -> Sweep:
    views = {**sweep.views, "cam_0": replace(sweep.views["cam_0"], **changes)}
    return Sweep(sweep.rig, 0, views, sweep.lidar)


def with_scan(sweep: Sweep, **changes: object) -> Sweep:
    assert sweep.lidar is not None
    return Sweep(sweep.rig, 0, sweep.views, replace(sweep.lidar, **changes))


@pytest.mark.parametrize(
    "change",
    [
        lambda s: with_camera(s, intrinsics=s.rig["cam_0"].intrinsics * [[2], [1], [1]]),
        lambda s: with_camera(s, camera_to_vehicle=LIFTED @ s.rig["cam_0"].camera_to_vehicle),
        lambda s: with_camera(s, distortion=np.full(5, 0.1), distortion_model="plumb_bob"),
        lambda s: with_camera(s, self_occlusion=[[[0, 30], [9, 30], [9, 35]]]),
        lambda s: Sweep(Rig(s.rig.cameras, ground_z=0.1), 0, s.views, s.lidar),
        lambda s: with_view(s, vehicle_to_map=LIFTED),
        lambda s: with_view(s, stamp_ns=1),
        lambda s: with_view(s, image=np.ones_like(s.views["cam_0"].image)),
        lambda s: with_scan(s, vehicle_to_map=LIFTED),
        lambda s: with_scan(s, stamp_ns=1),
        lambda s: with_scan(s, points_vehicle=s.lidar.points_vehicle[1:]),
        lambda s: Sweep(s.rig, 0, s.views),
        lambda s: Sweep(s.rig, 0, {name: view for name, view in s.views.items() if name != "cam_0"}, s.lidar),
    ],
    ids=[
        "intrinsics",
        "mounting",
        "distortion",
        "own_vehicle",
        "road",
        "pose",
        "stamp",
        "pixels",
        "scan_pose",
        "scan_stamp",
        "points",
        "no_scan",
        "no_view",
    ],
)
def test_whatever_a_score_depends_on_changes_the_hash(
    make_sweep: Callable[..., Sweep], change: Callable[[Sweep], Sweep]
) -> None:
    sweep = make_sweep(np.random.default_rng(0))
    assert hash_of(sweep) == hash_of(Sweep(sweep.rig, 0, sweep.views, sweep.lidar))
    assert hash_of(change(sweep)) != hash_of(sweep)
    assert hash_of(change(sweep), sweep) != hash_of(sweep, change(sweep))
