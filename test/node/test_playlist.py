"""What of a bag is played: order, what is left out, and bags that are damaged or ask for what they should not."""

from __future__ import annotations

import re
import shutil
import sys

import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import get_types_from_msg
from sensor_msgs.msg import CompressedImage

from fsmde_ros.errors import SourceError
from fsmde_ros.node.bag_topics import MAX_DEPTH, MIN_DEPTH, bag_qos, message_class, offered_qos
from fsmde_ros.node.player import main
from fsmde_ros.node.playlist import Playlist
from fsmde_ros.replay_settings import heard_topics
from fsmde_ros.sources.bag_file import open_bag
from fsmde_ros.sources.bag_messages import COMPRESSED, TYPESTORE, compressed_image, odometry
from fsmde_ros.sweep import EncodedImage

pytestmark = pytest.mark.ros

NS = 1_000_000_000
START, COUNT = 1_600_000_000 * NS, 10
TOPIC = "/left/image_rect/compressed"


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    """Ten images at 10 Hz, one pose that is latched, and a message of a type that nobody has."""
    path = tmp_path_factory.mktemp("playlist") / "bag"
    TYPESTORE.register(get_types_from_msg("int32 number", "somebody_msgs/msg/Own"))
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        link = writer.add_connection(TOPIC, COMPRESSED, typestore=TYPESTORE)
        kept = QoSProfile(depth=10**6, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        latched = writer.add_connection(
            "/map", "nav_msgs/msg/Odometry", typestore=TYPESTORE, offered_qos_profiles=[bag_qos(kept)]
        )
        own = writer.add_connection("/own", "somebody_msgs/msg/Own", typestore=TYPESTORE)
        pose = odometry("base_link", np.eye(4), START)
        writer.write(latched, START, TYPESTORE.serialize_cdr(pose, "nav_msgs/msg/Odometry"))
        number = TYPESTORE.types["somebody_msgs/msg/Own"](number=1)
        writer.write(own, START, TYPESTORE.serialize_cdr(number, "somebody_msgs/msg/Own"))
        for k in range(COUNT):
            noise = np.random.default_rng(k).bytes(2000)
            image = compressed_image(EncodedImage(noise), "left", START + k * NS // 10 + 7)
            writer.write(link, START + k * NS // 10, TYPESTORE.serialize_cdr(image, COMPRESSED))
    return path


@pytest.fixture
def copy(bag, tmp_path):
    """A copy of the bag to damage: its folder, storage and metadata."""
    target = tmp_path / "bag"
    shutil.copytree(bag, target)
    return target, next(target.glob("*.mcap")), target / "metadata.yaml"


def test_messages_come_in_order_with_the_stamps_of_images(bag):
    with open_bag(bag) as opened:
        playlist = Playlist(opened)
        entries = list(playlist.entries())
    assert playlist.left_out == ["/own (somebody_msgs/msg/Own)"]
    assert playlist.images == {TOPIC}
    assert [e.logged_ns for e in entries] == sorted(e.logged_ns for e in entries)
    assert [e.stamp_ns for e in entries if e.topic == TOPIC] == [START + k * NS // 10 + 7 for k in range(COUNT)]
    assert [e.stamp_ns for e in entries if e.topic == "/map"] == [None]


def test_an_image_without_a_stamp_or_with_a_bad_one_has_none_to_wait_for(tmp_path):
    """The node takes none of these and reports no sweep of them."""
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        link = writer.add_connection(TOPIC, COMPRESSED, typestore=TYPESTORE)
        for stamp in (0, START, 0, -5 * NS):
            image = compressed_image(EncodedImage(b"jpeg"), "left", stamp)
            writer.write(link, START, TYPESTORE.serialize_cdr(image, COMPRESSED))
    with open_bag(tmp_path / "bag") as opened:
        playlist = Playlist(opened)
        assert [entry.stamp_ns for entry in playlist.entries()] == [None, START, None, None]
        assert playlist.first_stamps(TOPIC, 16) == [START]


def test_a_part_of_the_bag_keeps_what_is_latched(bag):
    with open_bag(bag) as opened:
        entries = list(Playlist(opened, start_s=0.35, duration_s=0.3).entries())
    assert [(e.topic, e.logged_ns - START) for e in entries] == [
        ("/map", 350_000_000),
        (TOPIC, 400_000_000),
        (TOPIC, 500_000_000),
        (TOPIC, 600_000_000),
    ]


@pytest.mark.parametrize("duration", [0.65, 1e9, 1e300, float("inf")])
def test_any_duration_will_do(bag, duration):
    with open_bag(bag) as opened:
        entries = list(Playlist(opened, [TOPIC], start_s=0.35, duration_s=duration).entries())
    assert [e.logged_ns - START for e in entries] == [k * NS // 10 for k in range(4, COUNT)]


def test_a_start_beyond_the_end_is_an_error_and_not_an_endless_loop_over_nothing(bag, tmp_path):
    with open_bag(bag) as opened:
        for start in (0.91, 1000.0, 1e300, float("inf")):
            with pytest.raises(
                SourceError, match=f"it ends before --start {re.escape(f'{start:g}')} s; choose a lower"
            ):
                Playlist(opened, start_s=start)
        with pytest.raises(SourceError, match=r"no message of these topics from 0.35 s on for 0.01 s; choose a lower"):
            Playlist(opened, [TOPIC], start_s=0.35, duration_s=0.01)
        assert [e.topic for e in Playlist(opened, ["/map"], start_s=0.5).entries()] == ["/map"], "latched"
    with Writer(tmp_path / "empty", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection(TOPIC, COMPRESSED, typestore=TYPESTORE)
    with open_bag(tmp_path / "empty") as opened, pytest.raises(SourceError, match="it has no messages"):
        Playlist(opened)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--start", "nan"), "--start must be >= 0 and --duration above 0, got nan"),
        (("--duration", "nan"), "--duration above 0, got 0.0, nan"),
        (("--start", "-1"), "--start must be >= 0"),
        (("--rate", "inf"), "--rate must be above 0 and finite, got inf"),
        (("--start", "1000"), "it ends before --start 1000 s"),
        (("--remap", "/lft:=/a"), "--remap /lft: no such topic; it has /left/image_rect/compressed, /map, /own"),
    ],
)
def test_options_that_cannot_be_are_refused(bag, given, message, capfd):
    assert main([str(bag), "--wait-for-subscribers", "0", *given]) == 2
    assert message in capfd.readouterr().err


def test_the_first_stamps(bag):
    with open_bag(bag) as opened:
        assert Playlist(opened).first_stamps(TOPIC, 3) == [START + k * NS // 10 + 7 for k in range(3)]


def test_images_of_one_camera_stand_for_one_another(tmp_path):
    topics = [TOPIC, "/left/image_raw/compressed", "/right/image_rect/compressed"]
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic in topics:
            link = writer.add_connection(topic, COMPRESSED, typestore=TYPESTORE)
            image = compressed_image(EncodedImage(b"x"), "left", START)
            writer.write(link, START, TYPESTORE.serialize_cdr(image, COMPRESSED))
        link = writer.add_connection("/left", "nav_msgs/msg/Odometry", typestore=TYPESTORE)
        pose = odometry("base_link", np.eye(4), START)
        writer.write(link, START, TYPESTORE.serialize_cdr(pose, "nav_msgs/msg/Odometry"))
    with open_bag(tmp_path / "bag") as opened:
        assert Playlist(opened).alternatives([*topics, "/left"]) == [topics[:2], topics[2:], ["/left"]]


def test_a_topic_can_be_left_out_unless_it_is_asked_for(bag):
    with open_bag(bag) as opened:
        assert {entry.topic for entry in Playlist(opened, without=("/map",)).entries()} == {TOPIC}
        assert {entry.topic for entry in Playlist(opened, ["/map"], without=("/map",)).entries()} == {"/map"}


def test_only_topics_of_the_bag_can_be_wanted(bag):
    with open_bag(bag) as opened:
        with pytest.raises(SourceError, match="no topic /right; it has /left/image_rect/compressed, /map, /own"):
            Playlist(opened, ["/right"])
        with pytest.raises(SourceError, match="nothing to play"):
            Playlist(opened, ["/own"])


def test_a_bag_that_was_cut_off_says_so_where_it_is_read(copy):
    folder, storage, _ = copy
    data = storage.read_bytes()
    storage.write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match=r"bag .*: (cannot be opened|damaged)"), open_bag(folder) as opened:
        list(Playlist(opened).entries())


@pytest.mark.parametrize("damage", ["cut off", "metadata"])
def test_the_commands_end_with_one_line_for_a_damaged_bag(copy, damage, capfd):
    folder, storage, metadata = copy
    if damage == "metadata":
        metadata.write_text("rosbag2_bagfile_information: [1, 2")
    else:
        storage.write_bytes(storage.read_bytes()[:5000])
    assert main([str(folder), "--wait-for-subscribers", "0"]) == 2
    err = capfd.readouterr().err
    assert "replay: bag " in err
    assert "Traceback" not in err
    with pytest.raises(SourceError, match="cannot be opened"):
        heard_topics(folder, ["left"], [])


def test_messages_that_cannot_be_found_are_told(copy, capfd):
    """Indices of a bag may be damaged in a way that shows in nothing but the number of messages."""
    folder, storage, _ = copy
    data = storage.read_bytes()
    middle = bytes(b ^ 0x5A for b in data[len(data) // 4 : 3 * len(data) // 4])
    storage.write_bytes(data[: len(data) // 4] + middle + data[3 * len(data) // 4 :])
    assert main([str(folder), "--wait-for-subscribers", "0"]) == 0
    assert "is damaged: it says that it has 11 messages of these topics, 3 could be read" in capfd.readouterr().err


def test_a_topic_that_ros_does_not_take_is_named(tmp_path, capfd):
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        link = writer.add_connection("/left image", COMPRESSED, typestore=TYPESTORE)
        image = compressed_image(EncodedImage(b"x"), "left", START)
        writer.write(link, START, TYPESTORE.serialize_cdr(image, COMPRESSED))
    assert main([str(tmp_path / "bag"), "--wait-for-subscribers", "0"]) == 2
    assert "'/left image' is no topic name that ROS takes; give it another with --remap" in capfd.readouterr().err
    given = ["--remap", "/left image:=/left", "--wait-for-subscribers", "0"]
    assert main([str(tmp_path / "bag"), *given]) == 0


@pytest.mark.parametrize(
    "msgtype",
    [
        *("", "/msg/Image", "msg/Image", "antigravity/msg/Image", "os/msg/path", "numpy/msg/A", "sensor_msgs/msg/None"),
        *("sensor_msgs/msg/../Image", "../sensor_msgs/msg/Image", "sensor_msgs.msg/msg/Image", "std_srvs/srv/Empty"),
    ],
)
def test_a_bag_cannot_have_any_module_imported(msgtype):
    before = set(sys.modules)
    assert message_class(msgtype) is None
    assert not {name.split(".")[0] for name in set(sys.modules) - before} & {"antigravity", "webbrowser"}


def test_types_that_are_installed_are_known():
    assert message_class("sensor_msgs/msg/CompressedImage") is CompressedImage
    assert message_class("nav_msgs/msg/Odometry") is not None


def test_a_bag_may_claim_any_depth(bag):
    with open_bag(bag) as opened:
        qos = {c.topic: offered_qos(c) for c in opened.connections}
    assert (qos["/map"].durability, qos["/map"].depth) == (DurabilityPolicy.TRANSIENT_LOCAL, MAX_DEPTH)
    assert (qos[TOPIC].durability, qos[TOPIC].depth) == (DurabilityPolicy.VOLATILE, MIN_DEPTH)


def test_what_was_recorded_best_effort_is_offered_to_those_who_ask_for_reliable(tmp_path):
    """A node that may lose nothing would never match the recording of a driver of sensor data else."""
    recorded = bag_qos(QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT))
    with Writer(tmp_path / "bag", version=9) as writer:
        writer.add_connection(TOPIC, COMPRESSED, typestore=TYPESTORE, offered_qos_profiles=[recorded])
    with open_bag(tmp_path / "bag") as opened:
        [connection] = opened.connections
    assert connection.ext.offered_qos_profiles[0].reliability.name == "BEST_EFFORT"
    assert offered_qos(connection).reliability == ReliabilityPolicy.RELIABLE
