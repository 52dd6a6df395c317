"""The fault matrix on a small drive: some of its cases as they are, and a judge that can say no."""

from __future__ import annotations

import array
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import psutil
import pytest
from sensor_msgs.msg import CompressedImage

from fsmde_ros.bit_depth import BitDepth
from fsmde_ros.chaos.bag_filter import read_messages
from fsmde_ros.chaos.faults import KINDS, Event, Fault, apply
from fsmde_ros.chaos.stream import Message, cameras
from fsmde_ros.errors import SourceError
from fsmde_ros.images import encode_jpeg
from fsmde_ros.node import fault_matrix
from fsmde_ros.node.fault_cases import Case, all_cases
from fsmde_ros.node.fault_judge import judge
from fsmde_ros.node.fault_matrix import DEADLINE_S, loss_lines, main, node_parameters, page, run_case
from fsmde_ros.node.pipeline import receive
from fsmde_ros.node.rehearsal import Heard, NodeProcess, Report, Stage, cut
from fsmde_ros.provenance import sha256_of
from fsmde_ros.replay_settings import free_domain
from fsmde_ros.rig import Camera
from fsmde_ros.rig_file import write_rig
from fsmde_ros.sources.bag_messages import COMPRESSED, INFO, TYPESTORE, camera_info, compressed_image
from fsmde_ros.sources.bag_writer import write_bag
from fsmde_ros.sweep import Sweep, View
from fsmde_ros.sweep_assembler import AssemblerConfig, SweepAssembler

NAMES = ("left", "middle", "right")
SIZE = (96, 160)
START, PERIOD, STEP, COUNT = 1_600_000_000_000_000_000, 100_000_000, 15_000_000, 36
RATE = 0.5
DOMAIN = free_domain()


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory, ring):
    """A bag of 3.6 s at 10 Hz and the rig file that fits it."""
    folder = tmp_path_factory.mktemp("drive")
    rig = ring(NAMES, SIZE)
    noise = np.random.default_rng(0).integers(0, 256, (12, *SIZE, 3), dtype=np.uint8)
    pictures = [encode_jpeg(pixels) for pixels in noise]
    sweeps = []
    for k in range(COUNT):
        views = {
            n: View(pictures[(k + 4 * i) % 12], START + k * PERIOD + i * STEP, np.eye(4)) for i, n in enumerate(NAMES)
        }
        sweeps.append(Sweep(rig, START + k * PERIOD, views))
    write_bag(folder / "bag", sweeps)
    write_rig(rig, folder / "rig.yaml")
    return read_messages(folder / "bag"), folder / "rig.yaml"


TRIES = 4
CASES = (
    Case(
        "lost, corrupt and twice",
        (Fault("drop", share=0.05), Fault("corrupt", 1, 3, ("left",), 0.5), Fault("duplicate", 1, 3, ("right",))),
        states=("undecodable",),
    ),
    Case(
        "dead, late",
        (Fault("dead", 1, 2, ("left",)), Fault("delay", 2, 3, ("right",), amount=0.4)),
        {"late": lambda events: sum(e.kind == "delay" for e in events)},
        states=("late", "stale"),
        undetermined=("out_of_order",),  # those that the first one on time again overtakes
        may_say=("out of order",),
    ),
    Case("other calibration", (Fault("calibration", 1, 2, ("left",)),)),
    Case("clock set back", (Fault("clock_jump", 2, amount=-5.037),), {"resets": lambda _: 1}, may_reset=True),
)


@pytest.fixture(scope="module")
def running(rehearsal, tiny_checkpoint, tmp_path_factory):
    """A node and the stage it plays on, for all cases."""
    bag, rig = rehearsal
    parameters = {**node_parameters(bag, RATE), "rig_file": rig, "checkpoint": tiny_checkpoint, "device": "cpu"}
    log = tmp_path_factory.mktemp("node") / "node.log"
    with NodeProcess(parameters, log, DOMAIN) as node, Stage(bag, DOMAIN) as stage:
        node.wait_until_active()
        yield node, stage
        assert node.stop() == 0, node.tail()


@pytest.mark.ros
@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_node_under_faults(case, rehearsal, running):
    # A machine that stalls makes the node replace sweeps. It tells of each, and nothing else may be lost. Where it
    # stalls for longer than the deadline of a sweep, images come late that were sent in time: then once more.
    for _ in range(TRIES):
        result = run_case(dataclasses.replace(case, may_replace=True), rehearsal[0], *running, rate=RATE, seed=2)
        stalled = result.lost or all("late" in failure or "stale" in failure for failure in result.failures)
        if not (result.failures and stalled):
            break
    assert not result.failures
    assert set(result.lost) <= {"replaced"}
    assert result.published + result.lost.get("replaced", 0) == result.usable
    assert result.published > COUNT // 4


def answer(drive, names=NAMES, lose=()):
    """What a node says that publishes every image but those of the sweeps ``lose``."""
    heard = Heard()
    images = [m for m in drive if m.is_image]
    stamps = sorted({(m.stamp_ns - START) // PERIOD for m in images})
    for k in stamps:
        views = [m for m in images if (m.stamp_ns - START) // PERIOD == k]
        dropped = k in lose
        names = tuple(m.camera for m in views)
        heard.reports.append(
            Report(views[0].stamp_ns, () if dropped else names, dropped, "replaced: x", 10.0, float(k))
        )
        heard.depths += [] if dropped else [(m.camera, m.stamp_ns) for m in views]
    kept = [[m for m in images if (m.stamp_ns - START) // PERIOD == k] for k in stamps if k not in lose]
    complete = sum(len(views) == len(NAMES) for views in kept)
    heard.diagnostics["pipeline"] = {
        "assembler messages": str(len(images)),
        "assembler late": "0",
        "complete": str(complete),
        "partial": str(len(kept) - complete),
    }
    return heard


def test_the_judge_is_content_with_a_node_that_publishes_all(rehearsal):
    bag, _ = rehearsal
    result = judge(Case("none"), bag, bag, [], answer(bag))
    assert not result.failures
    assert (result.sweeps_in, result.usable, result.published, result.complete) == (COUNT,) * 4
    about = {
        **{"command": "c", "bag": "b", "rate": 1, "seed": 0},
        "inputs": {"checkpoint": {"name": "n", "sha256": "0" * 64}},
        "machine": {"cores": 2, "processor": "p"},
    }
    assert f"| none | {COUNT} | {COUNT} |" in page([result], about)


def test_the_judge_sees_what_is_wrong(rehearsal):
    bag, _ = rehearsal
    lossy = judge(Case("none"), bag, bag, [], answer(bag, lose=(7,)))
    assert "1 sweeps with a good view were not published: [7]" in lossy.failures
    assert lossy.lost == {"replaced": 1}
    assert not judge(Case("burst", may_replace=True), bag, bag, [], answer(bag, lose=(7,))).failures
    heard = answer(bag)
    heard.reports[3], heard.reports[4] = heard.reports[4], heard.reports[3]
    assert "the output went back in time 1 times" in judge(Case("none"), bag, bag, [], heard).failures
    heard = answer(bag)
    heard.diagnostics["pipeline"]["assembler messages"] = "3"
    assert f"messages: 3 counted, {3 * COUNT} expected" in judge(Case("none"), bag, bag, [], heard).failures
    case = Case("late", (Fault("delay"),), {"late": len}, states=("late",))
    event = Event("delay", "/left/image_rect/compressed", START, 0.0)
    failures = judge(case, bag, bag, [event], answer(bag)).failures
    assert "late: 0 counted, 1 expected" in failures
    assert "no camera was said to be 'late'" in failures
    heard = answer(bag)
    heard.diagnostics["pipeline"] |= {"assembler duplicate": "2", "complete": "35"}
    heard.states["left"] = {"OK", "stale"}
    assert judge(Case("none"), bag, bag, [], heard).failures == [
        "duplicate: 2 counted, 0 expected",
        f"35 complete sweeps were counted, {COUNT} came",
        "a camera was said to be 'stale'",
    ]


def test_the_judge_wants_the_other_calibration_used_and_gone(rehearsal):
    bag, _ = rehearsal
    case = Case("calibration", (Fault("calibration", 1, 2, ("left",)),))
    drive, events = apply(bag, list(case.faults), 0)

    def judged(first, last):
        heard = answer(drive)
        other = {("left", START + k * PERIOD) for k in range(first, last)}
        heard.focals = [(*frame, 80.0 if frame in other else 100.0) for frame in heard.depths]
        return judge(case, bag, drive, events, heard)

    assert (judged(10, 20).recovery, judged(10, 20).failures) == (0, [])
    assert judged(10, 24).failures == ["4 sweeps until the first complete one after the fault"]
    assert judged(0, 0).failures == ["the other calibration was never used"]


def test_recovery_counts_the_sweeps_after_the_fault_until_one_is_whole(rehearsal):
    bag, _ = rehearsal
    case = Case("dead", (Fault("dead", 1, 2, ("left",)),))
    drive, events = apply(bag, list(case.faults), 0)
    assert judge(case, bag, drive, events, answer(drive)).recovery == 0
    heard = answer(drive)
    heard.depths = [(c, s) for c, s in heard.depths if c != "left" or not 20 <= (s - START) // PERIOD < 23]
    result = judge(case, bag, drive, events, heard)
    assert result.recovery == 3
    assert "3 sweeps until the first complete one after the fault" in result.failures
    # sweeps that were replaced are what the machine costs, not the fault
    busy = judge(dataclasses.replace(case, may_replace=True), bag, drive, events, answer(drive, lose=(20, 21, 22)))
    assert busy.recovery == 0
    assert not busy.failures


def test_every_kind_of_fault_is_in_the_matrix(rehearsal):
    bag, _ = rehearsal
    assert {f.kind for case in all_cases(cameras(bag)) for f in case.faults} == set(KINDS)
    assert len({case.name for case in all_cases(NAMES)}) == len(all_cases(NAMES))
    assert all(dataclasses.is_dataclass(case) for case in all_cases(NAMES))


OFFSETS_MS = {"cam_b": 0.0, "cam_e": 7.6, "cam_a": 15.6, "cam_f": 23.2, "cam_d": 32.7, "cam_c": 42.6}


@pytest.fixture(scope="module")
def turning_drive():
    """6.5 s of six cameras at 12 Hz that fire one after another, as messages."""
    images = [encode_jpeg(np.full((8, 16, 3), value, np.uint8)) for value in range(0, 250, 10)]
    made = []
    for k in range(78):
        for i, (name, offset) in enumerate(OFFSETS_MS.items()):
            stamp = START + round((k * 1000 / 12 + offset) * 1e6)
            camera = Camera(name, (8, 16), np.array([[9.0, 0, 8], [0, 9, 4], [0, 0, 1]]), np.eye(4))
            for topic, kind, content in (
                (f"/{name}/camera_info", INFO, camera_info(camera, stamp)),
                (f"/{name}/image_rect/compressed", COMPRESSED, compressed_image(images[(k + i) % 25], name, stamp)),
            ):
                made.append(Message(topic, kind, stamp, bytes(TYPESTORE.serialize_cdr(content, kind)), len(made)))
    return made


def rehearse(drive, names):
    """What a node says whose work takes no time, but of its cameras: the real look at an image, the real assembler."""
    assembler = SweepAssembler(AssemblerConfig(names, deadline_s=DEADLINE_S))
    heard, refused, clock = Heard(), dict.fromkeys(names, 0), drive[0].time_ns
    focal = dict.fromkeys(names, 9.0)

    def publish(sweeps):
        for sweep in sweeps:
            views = tuple(name for name, arrival in sweep.views.items() if arrival.payload)
            heard.reports.append(Report(sweep.stamp_ns, views, not views, "no usable view: x", 1.0, 0.0))
            heard.depths += [(name, sweep.views[name].stamp_ns) for name in views]
            heard.focals += [(name, sweep.views[name].stamp_ns, focal[name]) for name in views]

    for message in drive:
        while clock + 10_000_000 < message.time_ns:
            clock += 10_000_000
            publish(assembler.tick(clock / 1e9))
        if message.msgtype == INFO:
            focal[message.camera] = message.decoded().k[0]
        elif message.is_image:
            received = receive(
                CompressedImage(format="jpeg", data=array.array("B", message.decoded().data)), BitDepth()
            )
            refused[message.camera] += received.image is None
            payload = received.image is not None and focal[message.camera] > 0
            publish(assembler.add(message.camera, message.stamp_ns, payload, message.time_ns / 1e9))
    publish(assembler.tick(clock / 1e9 + 10))
    counters = {f"assembler {name}": str(value) for name, value in assembler.counters.as_dict().items()}
    published = Counter(len(report.views) == len(names) for report in heard.reports if not report.dropped)
    counters |= {"complete": str(published[True]), "partial": str(published[False])}
    heard.diagnostics = {"pipeline": counters, **{name: {"refused": str(count)} for name, count in refused.items()}}
    return heard


@pytest.mark.parametrize("case", all_cases(sorted(OFFSETS_MS)), ids=lambda case: case.name)
def test_every_case_holds_where_the_work_takes_no_time(case, turning_drive):
    drive, events = apply(turning_drive, list(case.faults), 1)
    result = judge(case, turning_drive, drive, events, rehearse(drive, cameras(turning_drive)))
    assert not [failure for failure in result.failures if "was said to be" not in failure]
    assert result.published == result.usable
    assert (result.recovery is None) == (not case.faults or any(fault.end == np.inf for fault in case.faults)) or any(
        fault.kind == "clock_jump" for fault in case.faults
    )


def test_a_fault_that_touches_nothing_does_not_hold(rehearsal):
    """As on a bag that ends before it begins."""
    bag, _ = rehearsal
    case = Case("dead", (Fault("dead", 100, 200), Fault("drop", share=0.5)))
    drive, events = apply(bag, list(case.faults), 0)
    failures = judge(case, bag, drive, events, answer(drive)).failures
    assert failures == ["the fault dead touched nothing; is the bag long enough?"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rate", "0"], "--rate and --seconds must be above 0, got 0 and inf"),
        (["--seconds", "-1"], "--rate and --seconds must be above 0, got 0.5 and -1"),
        (["--untrained", "--out", "/proc/none/faults.json"], "/proc/none: cannot be written"),
    ],
)
def test_what_cannot_run_is_said_before_the_node_starts(rehearsal, arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(fault_matrix, "NodeProcess", None)
    folder = rehearsal[1].parent
    assert main([str(folder / "bag"), str(rehearsal[1]), *arguments]) == 2
    assert f"fault_matrix: {message}" in capsys.readouterr().err


def test_a_drive_of_one_camera_is_refused_before_the_node_starts(rehearsal, monkeypatch, capsys):
    """What happens to one of several is what the cases are about."""
    bag, rig_file = rehearsal
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(fault_matrix, "NodeProcess", None)
    monkeypatch.setattr(fault_matrix, "read_messages", lambda _: [m for m in bag if m.camera in ("left", "")])
    assert main([str(rig_file.parent / "bag"), str(rig_file)]) == 2
    assert "fault_matrix: the bag has images of left alone; expected those of two cameras" in capsys.readouterr().err


def test_a_drive_without_images_is_refused(rehearsal):
    bag, _ = rehearsal
    with pytest.raises(SourceError, match="no images"):
        cut([message for message in bag if not message.is_image], 5.0)


@pytest.mark.ros
@pytest.mark.slow
def test_the_command_writes_the_table_and_the_page(rehearsal, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "environ", dict(os.environ))  # main chooses a DDS domain for its own process
    folder = rehearsal[1].parent
    out, text = tmp_path / "faults.json", tmp_path / "pages" / "faults.md"
    given = [str(folder / "bag"), str(rehearsal[1]), "--untrained", "--out", str(out), "--page", str(text)]
    assert any(main([*given, "--only", "one camera at half the rate"]) == 0 for _ in range(TRIES))
    assert "1 of 1 cases hold; exit status of the node 0" in capsys.readouterr().out
    written = json.loads(out.read_text())
    assert written["inputs"]["bag"]["sha256"] == sha256_of(folder / "bag")
    assert written["command"].endswith("--only 'one camera at half the rate'")
    assert [result["case"] for result in written["results"]] == ["one camera at half the rate"]
    assert f"    {written['command']}\n" in text.read_text()
    with pytest.raises(SystemExit):
        main([*given, "--only", "no such case"])
    assert "no case no such case; there are: none; " in capsys.readouterr().err


def test_the_page_tells_of_lost_frames_where_they_were_measured(tmp_path):
    assert loss_lines(tmp_path / "absent.json") == []
    run = {"sweeps_in": 240, "out": 180, "whole": 180, "mixed": 0}
    measured = {"sweeps": 240, "loss": 0.05, "window_s": 0.05, "about": "message_filters 1", "own": [run]}
    (tmp_path / "loss.json").write_text(json.dumps(measured))
    lines = loss_lines(tmp_path / "loss.json")
    assert "| own | 240 | 180 | 180 | 0 |" in lines
    assert any("5 % of the frames" in line for line in lines)


def test_a_matrix_that_is_ended_ends_its_node(rehearsal, tmp_path):
    _, rig_file = rehearsal
    command = [sys.executable, "-m", "fsmde_ros.node.fault_matrix", str(rig_file.parent / "bag"), str(rig_file)]
    program = subprocess.Popen([*command, "--untrained", "--out", str(tmp_path / "faults.json")])
    try:
        deadline = time.monotonic() + 60
        while not (nodes := psutil.Process(program.pid).children()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        program.terminate()
        assert program.wait(30) == 130
        psutil.wait_procs(nodes, 10)
        assert not any(node.is_running() for node in nodes)
    finally:
        program.kill()
