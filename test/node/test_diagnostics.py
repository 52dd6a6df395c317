"""Diagnostics name the most specific cause, and count what happened."""

from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from fsmde_ros.node import diagnostics
from fsmde_ros.node.diagnostics import Monitor, SweepReport
from fsmde_ros.node.messages import stamp_message
from fsmde_ros.node.parameters import Settings
from fsmde_ros.stamps import stamp_problem
from fsmde_ros.sweep_assembler import CameraCounters, Counters

NONE = CameraCounters()
OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


def values(status):
    return {pair.key: pair.value for pair in status.values}


def monitor_with_frames(problem="", count=13, until=100.0, rate=12.0):
    monitor = Monitor(["cam"])
    for index in range(count):
        monitor.took("cam", until - (count - 1 - index) / rate, "optical", (90, 160), problem)
    return monitor


@pytest.mark.parametrize(
    ("problem", "rig_problem", "has_info", "now", "level", "state"),
    [
        ("", "", True, 100.1, OK, "OK"),
        ("", "", False, 100.1, WARN, "no CameraInfo"),
        ("the JPEG is truncated", "", True, 100.1, ERROR, "undecodable"),
        ("wrong size: the image is 8x9", "", True, 100.1, ERROR, "wrong size"),
        ("the JPEG is truncated", "uncalibrated: K is zero", True, 100.1, ERROR, "uncalibrated"),
        ("", "no extrinsics: not in the rig file", True, 100.1, ERROR, "no extrinsics"),
        ("", "no CameraInfo", False, 100.1, ERROR, "no CameraInfo"),
        ("", "the CameraInfo is of a binned image", True, 100.1, ERROR, "bad CameraInfo"),
        ("the JPEG is truncated", "", True, 101.5, ERROR, "stale"),
    ],
)
def test_the_most_specific_cause_comes_first(problem, rig_problem, has_info, now, level, state):
    status = monitor_with_frames(problem).camera_status("cam", now, "cam/image", rig_problem, has_info, NONE)
    assert (status.level, values(status)["state"]) == (level, state)
    assert status.name == "surround_depth: cam"
    expected = rig_problem or problem
    if state in ("undecodable", "wrong size", "uncalibrated"):
        assert status.message == expected


def test_a_camera_that_never_spoke_is_told_from_one_that_fell_silent():
    status = Monitor(["cam"]).camera_status("cam", 5.0, "cam/image_rect/compressed", "no CameraInfo", False, NONE)
    assert (status.level, values(status)["state"]) == (ERROR, "no messages")
    assert "cam/image_rect/compressed" in status.message
    assert "no CameraInfo" in status.message


def test_rates_and_ages():
    numbers = values(monitor_with_frames().camera_status("cam", 100.25, "t", "", True, NONE))
    assert float(numbers["rate_hz"]) == pytest.approx(12.0, abs=0.01)
    assert float(numbers["age_s"]) == pytest.approx(0.25)
    assert (numbers["frames"], numbers["size"], numbers["frame_id"]) == ("13", "160x90", "optical")


def test_a_camera_of_one_frame_a_second_is_not_stale_between_two_frames():
    status = monitor_with_frames(rate=0.5).camera_status("cam", 103.0, "t", "", True, NONE)
    assert status.level == OK


def pipeline(monitor, state="active", problem="", busy=0.0, budget=100.0, degraded=""):
    settings = Settings(latency_budget_ms=budget, stuck_after_s=5.0)
    return monitor.pipeline_status(state, problem, Counters(late=3), busy, settings, {"backend": "torch cpu"}, degraded)


def test_the_pipeline_counts_and_judges():
    monitor = Monitor([])
    assert pipeline(monitor).level == WARN
    for latency in [10.0] * 6 + [20.0] * 7 + [30.0] * 6:
        monitor.published(latency < 25, latency)
    monitor.dropped("replaced", "replaced by a newer sweep")
    status = pipeline(monitor)
    assert status.level == OK
    numbers = values(status)
    assert (numbers["complete"], numbers["partial"], numbers["dropped (replaced)"]) == ("13", "6", "1")
    assert (numbers["latency_p50_ms"], numbers["assembler late"], numbers["backend"]) == ("20.0", "3", "torch cpu")
    assert "above the budget" in pipeline(monitor, budget=15.0).message
    assert pipeline(monitor, budget=15.0).level == WARN
    assert pipeline(monitor, busy=5.1).level == ERROR
    assert "stuck" in pipeline(monitor, busy=5.1).message
    assert "inactive" in pipeline(monitor, state="inactive").message
    assert pipeline(monitor, state="unconfigured", problem="cannot configure: x").level == ERROR
    assert (pipeline(monitor, degraded="3 views").level, pipeline(monitor, degraded="3 views").message) == (
        WARN,
        "3 views",
    )


def test_sweeps_that_fail_are_an_error_until_one_is_published():
    monitor = Monitor([])
    monitor.published(True, 10.0)
    monitor.dropped("failed", "RuntimeError: cable")
    monitor.dropped("failed", "RuntimeError: cable")
    status = pipeline(monitor)
    assert status.level == ERROR
    assert status.message == "the last 2 sweeps were not published: RuntimeError: cable"
    monitor.published(True, 10.0)
    assert pipeline(monitor).level == OK


def test_sweeps_of_a_bad_camera_alone_are_no_error_while_others_are_published(monkeypatch):
    """As of one at 30 Hz that is not calibrated, beside others at 10 Hz."""
    now = [100.0]
    monkeypatch.setattr(diagnostics.time, "monotonic", lambda: now[0])
    monitor = Monitor([])
    for index in range(30):
        if index % 3 == 0:
            monitor.published(False, 10.0)
        else:
            monitor.dropped("no usable view", "cam: uncalibrated")
        now[0] += 1 / 30
        assert pipeline(monitor).level == OK
    assert values(pipeline(monitor))["dropped (no usable view)"] == "20"
    monitor.dropped("failed", "RuntimeError: cable")
    assert pipeline(monitor).level == ERROR
    monitor.published(False, 10.0)
    for _ in range(40):
        monitor.dropped("no usable view", "cam: uncalibrated")
        now[0] += 1 / 30
    status = pipeline(monitor)
    assert (status.level, status.message) == (ERROR, "the last 40 sweeps were not published: cam: uncalibrated")


def test_sweeps_that_are_skipped_are_counted_and_no_more(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(diagnostics.time, "monotonic", lambda: now[0])
    monitor = Monitor([])
    monitor.published(True, 10.0)
    for _ in range(19):
        monitor.skipped()
        now[0] += 0.1
    settings = Settings(max_rate_hz=0.5)
    status = monitor.pipeline_status("active", "", Counters(), 0.0, settings, {})
    assert (status.level, values(status)["skipped"], values(status)["last_error"]) == (OK, "19", "")
    now[0] += 10
    assert "no sweep was published for" in monitor.pipeline_status("active", "", Counters(), 0, settings, {}).message


def test_a_machine_that_is_too_slow_is_told():
    monitor = Monitor([])
    for _ in range(10):
        monitor.published(True, 10.0)
        monitor.dropped("replaced", "replaced")
    status = pipeline(monitor)
    assert status.level == WARN
    assert "50 % of the last sweeps were replaced" in status.message


@pytest.mark.parametrize(
    ("counters", "level", "state"),
    [
        (CameraCounters(messages=12, late=3), WARN, "late"),
        (CameraCounters(messages=12, out_of_order=2), WARN, "out of order"),
        (CameraCounters(messages=12, out_of_order=2, late=4), WARN, "out of order"),  # what comes behind is late, too
        (CameraCounters(messages=12, out_of_order=2, late=5), WARN, "late"),
        (CameraCounters(messages=12, strayed=12, late=1), ERROR, "bad stamp"),
        (CameraCounters(messages=12, duplicate=11), ERROR, "bad stamp"),
        (CameraCounters(messages=12, duplicate=7, late=5), ERROR, "bad stamp"),
        (CameraCounters(messages=12, duplicate=6), OK, "OK"),  # each image twice
        (CameraCounters(messages=13, duplicate=7), OK, "OK"),
    ],
)
def test_what_the_synchroniser_counted_is_told_once(counters, level, state):
    monitor = monitor_with_frames()
    status = monitor.camera_status("cam", 100.1, "t", "", True, counters)
    assert (status.level, values(status)["state"]) == (level, state)
    assert values(status)["late"] == str(counters.late)
    assert values(monitor.camera_status("cam", 100.2, "t", "", True, counters))["state"] == "OK"


def test_a_stamp_that_stands_still_is_told_with_its_remedy():
    """To the synchroniser such images are duplicates at first, and late when the other cameras have gone on."""
    monitor = Monitor(["cam"])
    for index in range(12):
        monitor.took("cam", 100 + index / 12, "optical", (90, 160), "", stamp_ns=7)
    status = monitor.camera_status("cam", 101.0, "t", "", True, CameraCounters(messages=12, duplicate=4, late=7))
    assert (status.level, values(status)["state"]) == (ERROR, "bad stamp")
    assert status.message.startswith("bad stamp: repeats in 11 of the last 12 images; the driver must stamp")


def test_a_bag_of_one_sweep_that_is_played_over_and_over_has_no_bad_stamps():
    monitor = Monitor(["cam"])
    for index in range(8):
        monitor.took("cam", 100 + 1.5 * index, "optical", (90, 160), "", stamp_ns=7)
    assert monitor.camera_status("cam", 110.6, "t", "", True, CameraCounters(messages=8)).level == OK


def test_a_header_that_nobody_fills_is_told_with_its_remedy():
    problem = stamp_problem(0, 0)
    status = monitor_with_frames(problem).camera_status("cam", 100.1, "t", "", True, NONE)
    assert (status.level, values(status)["state"]) == (ERROR, "bad stamp")
    assert "the driver does not fill header.stamp" in status.message
    assert stamp_problem(0, 1) == ""  # the first moment of a simulation


def test_a_node_that_does_not_listen_does_not_judge_its_cameras():
    status = monitor_with_frames().camera_status("cam", 160.0, "t", "", True, NONE, node_state="inactive")
    assert (status.level, values(status)["state"]) == (OK, "inactive")
    assert "not judged: the node is inactive" in status.message


def test_a_restart_counts_from_0_again():
    monitor = monitor_with_frames("the JPEG is truncated")
    monitor.camera_status("cam", 100.1, "t", "", True, CameraCounters(messages=300, strayed=3))
    monitor.restart()
    assert values(monitor.camera_status("cam", 160.0, "t", "", True, NONE))["state"] == "no messages"
    for index in range(3):
        monitor.took("cam", 160.1 + index / 12, "optical", (90, 160), "")
    status = monitor.camera_status("cam", 160.4, "t", "", True, CameraCounters(messages=3, strayed=1))
    assert status.message.startswith("bad stamp: 1 of the last 3 images")
    assert float(values(status)["rate_hz"]) == pytest.approx(12, abs=0.01)  # without the pause


def test_a_camera_whose_image_cannot_be_decoded_after_all():
    monitor = monitor_with_frames()
    monitor.refused("cam", "corrupt data")
    status = monitor.camera_status("cam", 100.0, "t", "", True, NONE)
    assert (values(status)["state"], values(status)["refused"]) == ("undecodable", "1")


def test_an_image_that_arrives_meanwhile_does_not_hide_that_none_can_be_decoded():
    monitor = monitor_with_frames()
    for index in range(5):
        monitor.refused("cam", "corrupt data")
        monitor.took("cam", 100.0 + (index + 1) / 12, "optical", (90, 160), "")
        status = monitor.camera_status("cam", 100.0 + (index + 1) / 12, "t", "", True, NONE)
        assert (values(status)["state"], status.message) == ("undecodable", "corrupt data")
    monitor.decoded(["cam"])
    assert monitor.camera_status("cam", 100.5, "t", "", True, NONE).level == OK


def test_a_camera_that_fails_again_after_an_outage_is_stale_at_once():
    monitor = monitor_with_frames()  # until 100
    for index in range(12):
        monitor.took("cam", 220.0 + index / 12, "optical", (90, 160), "")
    assert monitor.camera_status("cam", 221.0, "t", "", True, NONE).level == OK
    status = monitor.camera_status("cam", 223.0, "t", "", True, NONE)
    assert (status.level, values(status)["state"]) == (ERROR, "stale")


def test_a_pipeline_that_publishes_nothing_any_more_says_so(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(diagnostics.time, "monotonic", lambda: now[0])
    monitor = Monitor([])
    for _ in range(20):
        now[0] += 0.1
        monitor.published(True, 10.0)
    assert pipeline(monitor).level == OK
    now[0] += 0.9
    assert pipeline(monitor).level == OK
    now[0] += 0.2
    status = pipeline(monitor)
    assert (status.level, status.message) == (WARN, "no sweep was published for 1.1 s; see the cameras")
    monitor.restart()
    assert pipeline(monitor).message == "no sweep was published yet"


def test_the_node_is_told_with_its_namespace():
    monitor = Monitor(["cam"], "car1/depth_a")
    status = monitor.camera_status("cam", 0.0, "t", "", True, NONE)
    assert (status.name, status.hardware_id) == ("car1/depth_a: cam", "car1/depth_a")
    assert pipeline(monitor).name == "car1/depth_a: pipeline"


@pytest.mark.parametrize(
    ("missing", "level", "state"),
    [
        ((), OK, "published"),
        (("b",), WARN, "published"),
        (("a", "b"), ERROR, "dropped"),
        (("a", "b"), OK, "skipped"),
    ],
)
def test_sweep_reports(missing, level, state):
    views = tuple(name for name in "ab" if name not in missing)
    times = {"total": 12.5} if state == "published" else {}
    report = SweepReport(stamp_message(7_000_000_005), views, missing, "why", state, times)
    assert f"7.000000005: {state}" in report.to_line()
    message = report.to_message("base_link")
    assert (message.header.frame_id, message.header.stamp.sec, message.header.stamp.nanosec) == ("base_link", 7, 5)
    (status,) = message.status
    assert (status.name, status.level, status.message) == ("sweep", level, "why")
    found = values(status)
    assert (found["views"], found["missing"], found["state"]) == (",".join(views), ",".join(missing), state)
    assert found.get("total_ms") == ("12.500" if state == "published" else None)
