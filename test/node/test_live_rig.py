"""The rig that the topics tell: what is usable, why the rest is not, and when it is built anew."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from fsmde_ros.errors import ConfigError, RigError
from fsmde_ros.geometry import rigid
from fsmde_ros.node.live_rig import LiveRig
from fsmde_ros.node.messages import camera_to_info
from fsmde_ros.node.synchronisation import build_synchroniser
from fsmde_ros.node.transforms import RigFileExtrinsics, TfBuffer
from fsmde_ros.sweep_assembler import AssemblerConfig, SweepAssembler


@pytest.fixture
def file_rig(ring):
    return ring(("a", "b"), (90, 160))


@pytest.fixture
def live(file_rig):
    return LiveRig(("a", "b", "c"), RigFileExtrinsics(file_rig, "rig.yaml"), file_rig, rectified=True)


def test_the_rig_file_serves_until_camera_infos_arrive(live, file_rig):
    assert live.rig().names == ("a", "b")
    np.testing.assert_array_equal(live.rig()["a"].intrinsics, file_rig["a"].intrinsics)
    assert not live.has_info("a")
    assert "camera 'c' is not in the rig file rig.yaml" in live.problem("c")


def test_a_camera_info_takes_over_and_only_a_change_makes_a_new_rig(live, file_rig):
    small = file_rig["a"].resized((45, 64))
    live.take("a", camera_to_info(small, Header(frame_id="a_optical")))
    rig = live.rig()
    assert rig["a"].size == (45, 64)
    assert rig["a"].frame == "a_optical"
    np.testing.assert_array_equal(rig["a"].camera_to_vehicle, file_rig["a"].camera_to_vehicle)
    live.take("a", camera_to_info(small, Header(frame_id="a_optical")))
    assert live.rig() is rig
    live.take("a", camera_to_info(file_rig["a"], Header(frame_id="a_optical")))
    assert live.rig() is not rig
    assert live.rig()["a"].size == (90, 160)


def test_the_outline_of_the_own_vehicle_in_the_rig_file_fits_images_of_another_size(file_rig):
    bonnet = ([[0, 59.5], [159, 59.5], [159, 89], [0, 89]],)
    with_bonnet = replace(file_rig, cameras=(replace(file_rig["a"], self_occlusion=bonnet), file_rig["b"]))
    live = LiveRig(("a", "b"), RigFileExtrinsics(with_bonnet, "rig.yaml"), with_bonnet, rectified=True)
    assert live.rig()["a"].self_occlusion[0].tolist() == bonnet[0]
    live.take("a", camera_to_info(file_rig["a"].resized((45, 80)), Header()))
    [outline] = live.rig()["a"].self_occlusion
    np.testing.assert_allclose(outline[:, 1], [29.5, 29.5, 44.25, 44.25])
    assert live.rig()["b"].self_occlusion == ()


def test_images_that_are_turned_against_their_lens_are_known(live, file_rig):
    assert live.turns() == {}
    turned = camera_to_info(file_rig["a"], Header())
    turned.r = rigid([np.cos(0.01), np.sin(0.01), 0, 0], [0, 0, 0])[:3, :3].ravel().tolist()
    live.take("b", camera_to_info(file_rig["b"], Header()))
    live.take("a", camera_to_info(file_rig["a"], Header()))
    live.take("a", turned)
    assert live.turns() == {"a": pytest.approx(np.degrees(0.02))}
    np.testing.assert_array_equal(live.rig()["a"].camera_to_vehicle, file_rig["a"].camera_to_vehicle)
    live.take("a", camera_to_info(file_rig["a"], Header()))
    assert live.turns() == {}


def test_numbers_that_are_none_are_no_change(live, file_rig):
    """A simulator may fill D with NaN; of rectified images nobody reads it."""
    for _ in range(2):
        message = camera_to_info(file_rig["a"], Header())
        message.d = [float("nan")] * 5
        rig = live.rig()
        live.take("a", message)
    assert live.rig() is rig


def test_an_uncalibrated_camera_info_leaves_the_rig_file_in_force(live, file_rig):
    """Drivers send an empty one until they are calibrated; the rig file is how their users help themselves."""
    live.take("a", CameraInfo(height=90, width=160))
    assert live.problem("a") == ""
    assert not live.has_info("a")
    np.testing.assert_array_equal(live.rig()["a"].intrinsics, file_rig["a"].intrinsics)
    live.take("a", camera_to_info(file_rig["a"].resized((45, 64)), Header()))
    assert live.has_info("a")
    live.take("a", CameraInfo(height=90, width=160))
    assert live.rig()["a"].size == (45, 64)
    assert not live.has_info("a"), "that the driver has lost its calibration is told"
    live.take("a", camera_to_info(file_rig["a"].resized((45, 64)), Header()))
    assert live.has_info("a")


def test_an_uncalibrated_camera_leaves_the_rig_and_returns(file_rig):
    """Where only the extrinsics are known: cameras of TF."""
    live = LiveRig(("a", "b"), RigFileExtrinsics(file_rig, "TF"), None, rectified=True)
    live.take("b", camera_to_info(file_rig["b"], Header()))
    live.take("a", CameraInfo(height=90, width=160))
    assert "uncalibrated" in live.problem("a")
    assert live.rig().names == ("b",)
    live.take("b", CameraInfo(height=90, width=160))
    assert live.rig() is None
    live.take("a", camera_to_info(file_rig["a"], Header()))
    assert live.problem("a") == ""
    assert live.rig().names == ("a",)


def test_without_a_rig_file_every_camera_waits_for_its_info(file_rig):
    live = LiveRig(("a",), RigFileExtrinsics(file_rig, "rig.yaml"), None, rectified=True)
    assert live.rig() is None
    assert live.problem("a") == "no CameraInfo"
    live.take("a", camera_to_info(file_rig["a"], Header()))
    assert live.rig().names == ("a",)


class MovingExtrinsics:
    """A mounting that changes, or is not known, as TF would tell it."""

    vehicle_frame, ground_z = "base_link", 0.0

    def __init__(self, mounting):
        self.mounting = mounting

    def camera_to_vehicle(self, camera, frame):
        if self.mounting is None:
            raise RigError("no extrinsics: TF has no transform")
        return self.mounting


def test_a_changed_mounting_is_used_without_a_new_camera_info(file_rig):
    extrinsics = MovingExtrinsics(None)
    live = LiveRig(("a",), extrinsics, None, rectified=True)
    live.take("a", camera_to_info(file_rig["a"], Header()))
    live.refresh()
    assert live.rig() is None
    assert "no extrinsics" in live.problem("a")
    extrinsics.mounting = file_rig["a"].camera_to_vehicle
    live.refresh()
    first = live.rig()
    assert live.problem("a") == ""
    live.refresh()
    assert live.rig() is first
    extrinsics.mounting = file_rig["b"].camera_to_vehicle
    live.refresh()
    np.testing.assert_array_equal(live.rig()["a"].camera_to_vehicle, file_rig["b"].camera_to_vehicle)
    extrinsics.mounting = None
    live.refresh()
    assert live.rig() is None


def moved(mounting, metres=0.0, degrees=0.0):
    """To the left, and about the vertical axis of the vehicle."""
    half = np.deg2rad(degrees) / 2
    return rigid([np.cos(half), 0, 0, np.sin(half)], [0, metres, 0]) @ mounting


def test_a_mounting_that_trembles_makes_no_new_rig(file_rig):
    """As below a frame of TF that an IMU moves."""
    first = file_rig["a"].camera_to_vehicle
    extrinsics = MovingExtrinsics(first)
    live = LiveRig(("a",), extrinsics, None, rectified=True)
    live.take("a", camera_to_info(file_rig["a"], Header()))
    rig = live.rig()
    for metres, degrees in ((0.0009, 0.0), (-0.0009, 0.0), (0.0, 0.009), (0.0, -0.009), (0.0005, 0.005)):
        extrinsics.mounting = moved(first, metres, degrees)
        live.refresh()
        assert live.rig() is rig
    for metres, degrees in ((0.0011, 0.0), (0.0011, 0.011)):
        extrinsics.mounting = moved(first, metres, degrees)
        live.refresh()
        assert live.rig() is not rig
        rig = live.rig()


@pytest.mark.parametrize(("metres", "degrees"), [(0.0004, 0.0), (0.0, 0.004)])
def test_a_slow_drift_of_a_mounting_is_followed(file_rig, metres, degrees):
    first = file_rig["a"].camera_to_vehicle
    extrinsics = MovingExtrinsics(first)
    live = LiveRig(("a",), extrinsics, None, rectified=True)
    live.take("a", camera_to_info(file_rig["a"], Header()))
    for k in range(100):
        extrinsics.mounting = moved(first, k * metres, k * degrees)
        live.refresh()
        in_use = live.rig()["a"].camera_to_vehicle
        assert np.abs(in_use - extrinsics.mounting).max() < 0.0011
    assert not np.array_equal(in_use, first)


def test_the_own_synchroniser_is_the_assembler():
    assert isinstance(build_synchroniser("own", AssemblerConfig(("a",))), SweepAssembler)


@pytest.mark.skipif(importlib.util.find_spec("message_filters") is not None, reason="message_filters is installed")
def test_message_filters_that_are_absent_are_named():
    with pytest.raises(ConfigError, match="message_filters, which is not installed"):
        build_synchroniser("message_filters", AssemblerConfig(("a",)))


@pytest.mark.skipif(importlib.util.find_spec("message_filters") is None, reason="message_filters is not installed")
def test_message_filters_give_complete_sweeps():
    synchroniser = build_synchroniser("message_filters", AssemblerConfig(("a", "b"), window_s=0.02))
    out = [
        sweep
        for k in range(5)
        for i, name in enumerate("ab")
        for sweep in synchroniser.add(name, (1000 + 100 * k + 5 * i) * 1_000_000, k, k / 10)
    ]
    assert out
    assert all({arrival.payload for arrival in sweep.views.values()} == {k} for k, sweep in enumerate(out))


@pytest.mark.skipif(importlib.util.find_spec("message_filters") is None, reason="message_filters is not installed")
def test_message_filters_go_on_after_a_clock_that_was_set_back():
    synchroniser = build_synchroniser("message_filters", AssemblerConfig(("a", "b"), window_s=0.02))

    def play(begin_ms, names):
        return [
            sweep
            for k in range(20)
            for i, name in enumerate(names)
            for sweep in synchroniser.add(name, (begin_ms + 100 * k + 5 * i) * 1_000_000, k, k / 10)
        ]

    assert len(play(100_000, "ab")) >= 19
    play(102_000, "a")  # the other one is silent, so that ten stamps are left over
    assert len(play(95_000, "ab")) >= 19
    assert synchroniser.counters.resets == 1


@pytest.mark.skipif(importlib.util.find_spec("tf2_ros") is not None, reason="tf2_ros is installed")
def test_tf_that_is_absent_is_named_with_the_way_out():
    with pytest.raises(ConfigError, match=r"set rig_file, or install ROS 2: .*tf2_ros is not installed"):
        TfBuffer(None, "set rig_file")
