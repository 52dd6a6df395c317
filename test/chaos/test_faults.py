"""Every fault does what its name says, to the messages it was told to, the same for the same seed."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sqlite3
from collections import Counter

import numpy as np
import pytest
import yaml
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from fsmde_ros.chaos.__main__ import main, parse_fault
from fsmde_ros.chaos.bag_filter import read_messages
from fsmde_ros.chaos.faults import KINDS, Fault, apply
from fsmde_ros.chaos.stream import Message, count_images
from fsmde_ros.errors import ConfigError, ImageError, SourceError
from fsmde_ros.geometry import rigid
from fsmde_ros.images import decode, encode_jpeg, encoded_size
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sources.bag_messages import (
    COMPRESSED,
    INFO,
    RAW,
    TYPESTORE,
    camera_info,
    compressed_image,
    pose_transform,
)
from fsmde_ros.sources.bag_rig import TF
from fsmde_ros.sources.bag_writer import LAST_STAMP_NS, write_bag
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
    given = {"start": 1.0, "end": 2.0, "share": 0.5}
    fault = Fault(kind, **{name: value for name, value in given.items() if name not in KINDS[kind].takes_no})
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


def test_images_that_are_damaged_or_empty_already_stop_no_fault(drive):
    faults = Fault("corrupt", cameras=("a",), share=0.5), Fault("blank", cameras=("a",), amount=100.0)
    out, events = run(drive, *faults)
    kinds = Counter(event.kind for event in events)
    assert kinds["corrupt"] + kinds["blank"] == COUNT  # what cannot be read cannot be made blank of its size
    assert 0 < kinds["blank"] < COUNT
    readable = 0
    for message in images(out, "a"):
        with contextlib.suppress(ImageError):
            readable += int(abs(decode(EncodedImage(bytes(message.decoded().data))).astype(int) - 100).max() <= 1)
    assert readable == kinds["blank"]
    content = drive[1].decoded()
    empty = drive[1].encoded(dataclasses.replace(content, data=content.data[:0]))
    for kind in ("corrupt", "garble", "blank"):
        out, _ = run([empty], Fault(kind))
        assert len(out[0].decoded().data) == 0


def test_swapped_cameras(drive):
    out, events = run(drive, Fault("swap", 1.0, 2.0, ("a", "c")))
    inside = [m for m in images(out, "a") if START + 10 * PERIOD <= m.time_ns < START + 20 * PERIOD]
    assert [m.decoded().header.frame_id for m in inside] == ["c"] * 10
    assert len(events) == 20
    assert images(out, "b") == images(drive, "b")


def test_a_swap_is_between_two_cameras_and_topics_of_one_kind(drive):
    """Where a bag has images raw and compressed, of a kind that only one camera has, and of another name."""
    others = [("/a/image_raw", RAW), ("/b/image_raw", RAW), ("/b/image_rect", RAW), ("/c/image_color/compressed", "")]
    also = [Message(topic, kind or COMPRESSED, START + k, topic.encode(), -1) for k, (topic, kind) in enumerate(others)]
    out, _ = run([*drive[:6], *also], Fault("swap"))
    assert {m.topic: m.data for m in out if m.msgtype == RAW} == {
        "/a/image_raw": b"/b/image_raw",
        "/b/image_raw": b"/a/image_raw",
        "/b/image_rect": b"/b/image_rect",
    }
    frames = {m.topic: m.decoded().header.frame_id for m in out if m.topic.endswith("image_rect/compressed")}
    assert frames == {f"/{a}/image_rect/compressed": b for a, b in zip("abc", "bac", strict=True)}
    with pytest.raises(ConfigError, match=r"fault swap: expected at least two cameras .*; of a no two have"):
        run(drive, Fault("swap", cameras=("a",)))
    with pytest.raises(ConfigError, match="of a, b no two have"):
        run([*images(drive, "a"), *also[1:3]], Fault("swap"))


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


def transforms(topic, stamp):
    message = pose_transform("base_link", np.eye(4), stamp)
    message.transforms.append(pose_transform("trailer", np.eye(4), stamp + 1).transforms[0])
    return Message(topic, TF, stamp, bytes(TYPESTORE.serialize_cdr(message, TF)))


def test_a_clock_that_jumps_takes_moving_transforms_with_it_and_fixed_ones_not(drive):
    topics = ("/tf", "/robot/tf", "/tf_static", "/robot/tf_static")
    moments = (START + 10**9, START + 3 * 10**9)
    out, _ = run([*drive, *(transforms(t, s) for t in topics for s in moments)], Fault("clock_jump", 2.0, amount=100.0))
    for topic in topics:
        found = [[t.header.stamp for t in m.decoded().transforms] for m in out if m.topic == topic]
        later = 0 if topic.endswith("tf_static") else 100
        seconds = [moments[0] // 10**9, moments[1] // 10**9 + later]
        assert [[s.sec for s in stamps] for stamps in found] == [[s, s] for s in seconds]
        assert [[s.nanosec for s in stamps] for stamps in found] == [[0, 1], [0, 1]]
    with pytest.raises(SourceError, match="a message of /tf cannot be decoded"):
        run([*drive, Message("/tf", TF, START, b"\0\1\0\0\xff")], Fault("clock_jump"))


def test_stamps_stay_what_a_ros_time_can_be(drive):
    for kind in ("clock_jump", "wrong_clock"):
        out, _ = run(drive, Fault(kind, amount=1e9))
        assert {m.stamp_ns for m in images(out, "a")} == {LAST_STAMP_NS}
        out, _ = run([m.stamped(5) for m in drive], Fault(kind, amount=-1.0))
        assert {m.stamp_ns for m in images(out, "a")} == {0}


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
        ({"kind": "dead", "share": 0.5}, "fault dead: the camera says nothing.*; it takes no share: leave that out"),
        ({"kind": "rate", "share": 0.5}, "takes no share"),
        ({"kind": "clock_jump", "end": 4.0, "cameras": ("a",)}, "takes no end and no cameras"),
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
    with pytest.raises(SystemExit):
        main([str(bag), str(tmp_path / "other"), "--fault", "drop", "--seed", "-1"])
    assert "argument --seed: must be a whole number of at least 0, got '-1'" in capsys.readouterr().err


WHEEL = "vehicle_msgs/msg/Wheel"
WHEEL_TEXT = f"Inner[] turns\n{'=' * 80}\nMSG: vehicle_msgs/Inner\nfloat64 angle\n"


def bag_with_wheels(path, drive, storage):
    store = get_typestore(Stores.ROS2_JAZZY)
    store.register(get_types_from_msg(WHEEL_TEXT, WHEEL))
    with Writer(path, version=9, storage_plugin=storage) as writer:
        image = next(m for m in drive if m.is_image)
        link = writer.add_connection(image.topic, image.msgtype, typestore=store)
        writer.write(link, image.time_ns, image.data)
        inner = store.types["vehicle_msgs/msg/Inner"](angle=0.5)
        wheel = store.serialize_cdr(store.types[WHEEL](turns=[inner]), WHEEL)
        writer.write(writer.add_connection("/wheel", WHEEL, typestore=store), START + 1, wheel)
        return bytes(wheel), store.hash_rihs01(WHEEL)


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
@pytest.mark.parametrize("hashed", [True, False])
def test_messages_of_a_type_of_their_own_pass_with_their_definition(drive, tmp_path, storage, hashed):
    """Also where the recording has no hashes, as those before Iron."""
    wheel, digest = bag_with_wheels(tmp_path / "bag", drive, storage)
    if not hashed:
        metadata = tmp_path / "bag" / "metadata.yaml"
        content = yaml.safe_load(metadata.read_text())
        for topic in content["rosbag2_bagfile_information"]["topics_with_message_count"]:
            del topic["topic_metadata"]["type_description_hash"]
        metadata.write_text(yaml.safe_dump(content))
    assert main([str(tmp_path / "bag"), str(tmp_path / "out"), "--fault", "duplicate"]) == 0
    with Reader(tmp_path / "out") as reader:
        [connection] = [c for c in reader.connections if c.topic == "/wheel"]
        assert (connection.msgtype, connection.digest) == (WHEEL, digest)
        assert "float64 angle" in connection.msgdef.data
        assert [bytes(data) for c, _, data in reader.messages() if c.topic == "/wheel"] == [wheel]


def test_what_nobody_defines_is_left_out_and_told(drive, tmp_path, capsys):
    """A recording in SQLite before Iron has no definitions at all."""
    bag_with_wheels(tmp_path / "bag", drive, StoragePlugin.SQLITE3)
    with sqlite3.connect(tmp_path / "bag" / "bag.db3") as storage:
        storage.execute("DELETE FROM message_definitions")
    assert main([str(tmp_path / "bag"), str(tmp_path / "out"), "--fault", "duplicate"]) == 0
    said = capsys.readouterr().out
    assert "left out, as neither the bag nor ROS defines the type: /wheel (vehicle_msgs/msg/Wheel)" in said
    assert "1 faults in 2 messages, 2 written" in said
    assert [m.topic for m in read_messages(tmp_path / "out")] == ["/a/image_rect/compressed"] * 2


def test_a_record_that_cannot_be_written_is_told_before_the_bag_is(drive, tmp_path, capsys):
    bag_with_wheels(tmp_path / "bag", drive, StoragePlugin.MCAP)
    out = tmp_path / "out"
    for record in (tmp_path / "missing" / "chaos.json", tmp_path):
        assert main([str(tmp_path / "bag"), str(out), "--fault", "drop", "--record", str(record)]) == 2
        assert f"--record {record}: expected a file in a folder that is there" in capsys.readouterr().err
        assert not out.exists()
    assert main([str(tmp_path / "bag"), str(out), "--fault", "drop", "--record", "/dev/full"]) == 2
    assert "chaos: /dev/full: cannot be written: No space left on device" in capsys.readouterr().err
    assert main([str(tmp_path / "bag"), str(out), "--fault", "drop", "--overwrite", "--record", str(out / "it")]) == 0
    assert json.loads((out / "it").read_text())["events_by_kind"] == {"drop": 1}
