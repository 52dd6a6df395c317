"""Every fault does what its name says, to the messages it was told to, the same for the same seed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from rosbags.rosbag2 import Reader

from fsmde_ros.chaos.__main__ import main, parse_fault
from fsmde_ros.chaos.bag_filter import read_messages
from fsmde_ros.chaos.faults import KINDS, Fault, apply
from fsmde_ros.chaos.stream import Message, count_images
from fsmde_ros.errors import ConfigError, ImageError
from fsmde_ros.geometry import rigid
from fsmde_ros.images import decode, encode_jpeg, encoded_size
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sources.bag_messages import COMPRESSED, INFO, TYPESTORE, camera_info, compressed_image
from fsmde_ros.sources.bag_writer import write_bag
from fsmde_ros.sweep import EncodedImage, Sweep, View

START, PERIOD, STEP = 1_600_000_000_000_000_000, 100_000_000, 10_000_000
NAMES = ("a", "b", "c")
COUNT = 40


def camera(name):
    k = np.array([[30.0, 0, 16], [0, 30, 10], [0, 0, 1]])
    return Camera(name, (20, 32), k, rigid([0.5, -0.5, 0.5, -0.5], [0, 0, 1.5]))


def picture(seed):
    return encode_jpeg(np.random.default_rng(seed).integers(0, 256, (20, 32, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def drive():
    """40 sweeps of three cameras at 10 Hz, each image after its CameraInfo."""
    messages = []
    for k in range(COUNT):
        for i, name in enumerate(NAMES):
            stamp = START + k * PERIOD + i * STEP
            for topic, kind, content in (
                (f"/{name}/camera_info", INFO, camera_info(camera(name), stamp)),
                (f"/{name}/image_rect/compressed", COMPRESSED, compressed_image(picture(3 * k + i), name, stamp)),
            ):
                data = bytes(TYPESTORE.serialize_cdr(content, kind))
                messages.append(Message(topic, kind, stamp, data, len(messages)))
    return messages


def run(drive, *faults, seed=0):
    return apply(drive, list(faults), seed)


def images(messages, name):
    return [m for m in messages if m.is_image and m.camera == name]


def test_what_a_message_says_of_itself(drive):
    message = images(drive, "b")[2]
    assert (message.camera, message.stamp_ns) == ("b", START + 2 * PERIOD + STEP)
    moved = message.stamped(5 * 10**9 + 7)
    assert moved.stamp_ns == 5 * 10**9 + 7
    header = moved.decoded().header
    assert (header.stamp.sec, header.stamp.nanosec, header.frame_id) == (5, 7, "b")
    assert bytes(moved.decoded().data) == bytes(message.decoded().data)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_faults_and_only_in_their_time(drive, kind):
    share = {} if kind in ("dead", "clock_jump") else {"share": 0.5}
    fault = Fault(kind, 1.0, 2.0, **share)
    first, events = run(drive, fault, seed=3)
    again, _ = run(drive, fault, seed=3)
    assert [(m.topic, m.time_ns, m.data) for m in first] == [(m.topic, m.time_ns, m.data) for m in again]
    assert events
    assert [m.time_ns for m in first] == sorted(m.time_ns for m in first)
    if kind != "clock_jump":
        assert all(1.0 <= event.at_s < 2.0 for event in events)
        before = [m for m in drive if m.time_ns < START + 10 * PERIOD]
        assert [m.data for m in first][: len(before)] == [m.data for m in before]


def test_lost_images(drive):
    out, events = run(drive, Fault("drop", 1.0, 3.0, ("a",), share=0.5))
    assert count_images(out) == {"a": COUNT - len(events), "b": COUNT, "c": COUNT}
    assert 4 <= len(events) <= 16
    assert {event.topic for event in events} == {"/a/image_rect/compressed"}


def test_a_dead_camera_says_nothing_at_all(drive):
    out, events = run(drive, Fault("dead", 1.0, 2.0, ("b",)))
    assert len(images(out, "b")) == COUNT - 10
    assert len([m for m in out if m.camera == "b"]) == 2 * (COUNT - 10)
    assert len(events) == 20


@pytest.mark.parametrize(("kind", "low", "high"), [("delay", 0.3, 0.3), ("jitter", 0.0, 0.3)])
def test_late_images_keep_their_stamp(drive, kind, low, high):
    out, _ = run(drive, Fault(kind, cameras=("c",), amount=0.3))
    lateness = [(m.time_ns - m.stamp_ns) / 1e9 for m in images(out, "c")]
    assert min(lateness) >= low
    assert max(lateness) <= high
    assert max(lateness) > 0.2
    assert all(m.time_ns == m.stamp_ns for m in images(out, "a"))


def test_neighbours_change_places(drive):
    out, events = run(drive, Fault("reorder", 1.0, 2.0, ("a",)))
    stamps = [(m.stamp_ns - START) // PERIOD for m in images(out, "a")][9:21]
    assert stamps == [9, 11, 10, 13, 12, 15, 14, 17, 16, 19, 18, 20]
    assert len(events) == 10


def test_twice(drive):
    out, events = run(drive, Fault("duplicate", 1.0, 2.0, ("a",)))
    assert len(images(out, "a")) == COUNT + 10
    assert len({m.stamp_ns for m in images(out, "a")}) == COUNT
    assert len(events) == 10


def test_garbled_images_keep_length_and_ends_and_some_can_be_read(drive):
    out, events = run(drive, Fault("garble", 1.0, 3.0, ("a",)))
    before, after = images(drive, "a"), images(out, "a")
    changed = [(m.decoded().data, n.decoded().data) for m, n in zip(before, after, strict=True) if m.data != n.data]
    assert len(changed) == len(events) == 20
    for old, new in changed:
        assert len(old) == len(new)
        assert (bytes(old[:2]), bytes(old[-2:])) == (bytes(new[:2]), bytes(new[-2:]))
        assert 1 <= np.count_nonzero(old != new) <= round(0.01 * len(old)) + 1


def test_corrupt_images_cannot_be_read_and_blank_ones_can(drive):
    out, events = run(drive, Fault("corrupt", 1.0, 2.0, ("a",)))
    refused = 0
    for message in images(out, "a"):
        try:
            encoded_size(EncodedImage(bytes(message.decoded().data)))
        except ImageError:
            refused += 1
    assert refused == len(events) == 10
    out, _ = run(drive, Fault("blank", cameras=("a",), amount=100.0))
    pixels = decode(EncodedImage(bytes(images(out, "a")[5].decoded().data)))
    assert pixels.shape == (20, 32, 3)
    assert abs(pixels.astype(int) - 100).max() <= 1


def test_swapped_cameras(drive):
    out, events = run(drive, Fault("swap", 1.0, 2.0, ("a", "c")))
    inside = [m for m in images(out, "a") if START + 10 * PERIOD <= m.time_ns < START + 20 * PERIOD]
    assert [m.decoded().header.frame_id for m in inside] == ["c"] * 10
    assert len(events) == 20
    assert images(out, "b") == images(drive, "b")


@pytest.mark.parametrize("factor", [0.8, 0.0])
def test_another_calibration(drive, factor):
    out, _ = run(drive, Fault("calibration", 1.0, 2.0, ("a",), amount=factor))
    focal = [m.decoded().k[0] for m in out if m.topic == "/a/camera_info"]
    assert focal == pytest.approx([30.0] * 10 + [30 * factor] * 10 + [30.0] * 20)


def test_clocks(drive):
    out, events = run(drive, Fault("clock_jump", 2.0, amount=-5.0))
    shifts = {m.stamp_ns - m.time_ns for m in out if m.time_ns >= START + 2 * 10**9}
    assert shifts == {-5 * 10**9}
    assert len(events) == 60
    out, _ = run(drive, Fault("wrong_clock", cameras=("b",), amount=3600.0))
    assert {m.stamp_ns - m.time_ns for m in images(out, "b")} == {3600 * 10**9}
    assert {m.stamp_ns - m.time_ns for m in images(out, "a")} == {0}


def test_slower_and_in_bursts(drive):
    out, _ = run(drive, Fault("rate", 1.0, 3.0, ("a",), amount=4.0))
    assert len(images(out, "a")) == COUNT - 15
    out, _ = run(drive, Fault("burst", 1.0, 2.0, amount=0.5))
    times = {(m.time_ns - START) / 1e9 for m in out if m.is_image and 10 * PERIOD <= m.stamp_ns - START < 20 * PERIOD}
    assert times == {1.5, 2.0}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "gremlins"}, "fault 'gremlins' is not known, expected one of drop"),
        ({"kind": "drop", "share": 0.0}, "share above 0"),
        ({"kind": "drop", "start": 3.0, "end": 2.0}, "0 <= start < end"),
        ({"kind": "drop", "start": float("nan")}, "0 <= start < end"),
        ({"kind": "delay", "amount": -1.0}, r"amount \(seconds\) must be 0 to 3600"),
        ({"kind": "delay", "amount": float("nan")}, "amount"),
    ],
)
def test_faults_that_cannot_be_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Fault(**values)


def test_the_command_line(drive):
    fault = parse_fault("drop,share=0.05,cameras=a+b,start=2,end=4")
    assert fault == Fault("drop", 2.0, 4.0, ("a", "b"), 0.05)
    for text in ("drop,share", "drop,share=some", "drop,colour=red"):
        with pytest.raises(ConfigError, match="fault 'drop"):
            parse_fault(text)
    with pytest.raises(ConfigError, match="no camera z; the bag has a, b, c"):
        run(drive, Fault("drop", cameras=("z",)))


def test_a_bag_with_faults_keeps_everything_else_and_has_a_record(tmp_path, capsys):
    rig = Rig(tuple(map(camera, NAMES)))
    pose = np.eye(4)
    sweeps = [
        Sweep(
            rig,
            START + k * PERIOD,
            {n: View(picture(k), START + k * PERIOD + i * STEP, pose) for i, n in enumerate(NAMES)},
        )
        for k in range(20)
    ]
    bag, out = tmp_path / "bag", tmp_path / "out"
    write_bag(bag, sweeps)
    assert main([str(bag), str(out), "--fault", "drop,share=0.3", "--fault", "duplicate,cameras=b", "--seed", "5"]) == 0
    record = json.loads((out / "chaos.json").read_text())
    made = read_messages(out)
    assert count_images(made) == record["images_out"]
    assert record["images_in"] == dict.fromkeys(NAMES, 20)
    kinds = record["events_by_kind"]
    assert sum(record["images_out"].values()) == 60 - kinds["drop"] + kinds["duplicate"]
    assert len(record["events"]) == sum(kinds.values())
    others = [(m.topic, m.time_ns, m.data) for m in read_messages(bag) if not m.is_image]
    assert [(m.topic, m.time_ns, m.data) for m in made if not m.is_image] == others
    with Reader(out) as reader:
        static = next(c for c in reader.connections if c.topic == "/tf_static")
        assert static.ext.offered_qos_profiles[0].durability.name == "TRANSIENT_LOCAL"
    assert main([str(bag), str(out), "--fault", "drop"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([str(bag), str(tmp_path / "other")]) == 2
    assert "no --fault given" in capsys.readouterr().err
