"""Bags written and read back, and bags that others wrote."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from fsmde_ros.check_rig.__main__ import main as check_rig
from fsmde_ros.errors import FsmdeError, RigError, SourceError
from fsmde_ros.geometry import rigid
from fsmde_ros.images import decode
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sources.bag import BagDrive, read_rig_of_bag, sweeps
from fsmde_ros.sources.bag_file import open_bag
from fsmde_ros.sources.bag_rig import find_cameras, is_rectified_topic, node_topics
from fsmde_ros.sources.bag_writer import Written, write_bag
from fsmde_ros.sweep import EncodedImage, LidarScan, Sweep, View, scan_at_pose

STORE = get_typestore(Stores.ROS2_HUMBLE)  # an older distribution than the one that is written
MS, START = 1_000_000, 1_600_000_000_000_000_000
OFFSETS = {"left": -8 * MS, "front": 0, "right": 30 * MS}
LIDAR_TO_VEHICLE = rigid([np.sqrt(0.5), 0, 0, np.sqrt(0.5)], [0.9, 0.1, 1.8])


def rig() -> Rig:
    k = np.array([[16.0, 0, 15.5], [0, 17.0, 9.5], [0, 0, 1]])
    turns = {"left": [0.5, -0.5, 0.5, -0.5], "front": [0.3, -0.4, 0.5, -0.6], "right": [0.7, -0.7, 0.1, -0.1]}
    return Rig(
        tuple(
            Camera(name, (20, 32), k + i * np.diag([1, 1, 0]), rigid(turn, [i, 0.5, 1.5]), frame=f"{name}_optical")
            for i, (name, turn) in enumerate(turns.items())
        ),
        vehicle_frame="car",
    )


def jpeg(seed: int) -> EncodedImage:
    done, data = cv2.imencode(".jpg", np.random.default_rng(seed).integers(0, 255, (20, 32, 3), dtype=np.uint8))
    assert done
    return EncodedImage(data.tobytes())


def pose(stamp_ns: int) -> np.ndarray:
    seconds = (stamp_ns - START) / 1e9
    return rigid([np.cos(seconds / 4), 0, 0, np.sin(seconds / 4)], [100 + 10 * seconds, -5, 0])


def drive(count: int = 10) -> list[Sweep]:
    result = []
    for i in range(count):
        at = START + i * 83 * MS
        views = {n: View(jpeg(i * 3 + k), at + o, pose(at + o)) for k, (n, o) in enumerate(OFFSETS.items())}
        rng = np.random.default_rng(i)
        scan = LidarScan(
            points_vehicle=rng.uniform(-20, 20, (50, 3)),
            stamp_ns=at + 5 * MS,
            intensity=rng.integers(0, 256, 50).astype(np.float32),
            ring=rng.integers(0, 32, 50).astype(np.int32),
            vehicle_to_map=pose(at + 5 * MS),
            sensor_to_vehicle=LIDAR_TO_VEHICLE,
            name="lidar_top",
        )
        result.append(Sweep(rig(), at, views, scan))
    return result


def same(a: Sweep, b: Sweep) -> None:
    assert (a.stamp_ns, a.present, a.rig.names) == (b.stamp_ns, b.present, b.rig.names)
    for name in a.present:
        assert (a.views[name].image.data, a.views[name].stamp_ns) == (b.views[name].image.data, b.views[name].stamp_ns)
        np.testing.assert_allclose(a.views[name].vehicle_to_map, b.views[name].vehicle_to_map, atol=1e-9)
    assert a.lidar is not None
    assert b.lidar is not None
    assert (a.lidar.stamp_ns, a.lidar.name) == (b.lidar.stamp_ns, b.lidar.name)
    np.testing.assert_allclose(a.lidar.points_vehicle, b.lidar.points_vehicle, atol=5e-6)  # float32 at 40 m
    np.testing.assert_array_equal(a.lidar.intensity, b.lidar.intensity)
    np.testing.assert_array_equal(a.lidar.ring, b.lidar.ring)
    np.testing.assert_allclose(a.lidar.vehicle_to_map, b.lidar.vehicle_to_map, atol=1e-9)


def test_round_trip(tmp_path: Path) -> None:
    written = write_bag(tmp_path / "bag", drive())
    assert written == Written(sweeps=10, images=30, scans=10, poses=40)
    found = list(sweeps(tmp_path / "bag", vehicle_frame="car", anchor="front"))
    assert len(found) == 10
    for a, b in zip(found, drive(), strict=True):
        same(a, b)
    assert [path.name for path in tmp_path.iterdir()] == ["bag"]


def test_round_trip_of_the_rig(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", drive(1))
    found, lidars = read_rig_of_bag(tmp_path / "bag", "car")
    assert found.names == ("left", "front", "right")  # the order of the rig, not of the alphabet
    for a, b in zip(found.cameras, rig().cameras, strict=True):
        assert (a.size, a.frame, a.distortion_model) == (b.size, b.frame, "none")
        np.testing.assert_array_equal(a.intrinsics, b.intrinsics)
        np.testing.assert_allclose(a.camera_to_vehicle, b.camera_to_vehicle, atol=1e-12)
    assert list(lidars) == ["lidar_top"]
    np.testing.assert_allclose(lidars["lidar_top"], LIDAR_TO_VEHICLE, atol=1e-12)


def test_missing_frames(tmp_path: Path) -> None:
    whole = drive(14)
    lost = {6: "right", 9: "front"}
    holes = [replace(s, views={n: v for n, v in s.views.items() if n != lost.get(i)}) for i, s in enumerate(whole)]
    write_bag(tmp_path / "bag", holes)
    found = list(sweeps(tmp_path / "bag", vehicle_frame="car", anchor="front"))
    assert [sweep.missing for sweep in found] == [(lost[i],) if i in lost else () for i in range(14)]
    for i, sweep in enumerate(found):
        for name in sweep.present:
            assert sweep.views[name].image.data == whole[i].views[name].image.data


def test_what_is_in_the_bag(tmp_path: Path) -> None:
    """Read with rosbags alone, message by message."""
    write_bag(tmp_path / "bag", drive(3))
    with Reader(tmp_path / "bag") as reader:
        types = {c.topic: (c.msgtype, c.msgcount) for c in reader.connections}
        latched = {c.topic: [q.durability for q in c.ext.offered_qos_profiles] for c in reader.connections}  # type: ignore[union-attr]
        messages = [(c.topic, t, STORE.deserialize_cdr(raw, c.msgtype)) for c, t, raw in reader.messages()]
    assert types == {
        "/tf_static": ("tf2_msgs/msg/TFMessage", 1),
        "/tf": ("tf2_msgs/msg/TFMessage", 12),
        "/odom": ("nav_msgs/msg/Odometry", 12),
        "/lidar_top": ("sensor_msgs/msg/PointCloud2", 3),
        **{f"/{n}/camera_info": ("sensor_msgs/msg/CameraInfo", 3) for n in OFFSETS},
        **{f"/{n}/image_rect/compressed": ("sensor_msgs/msg/CompressedImage", 3) for n in OFFSETS},
    }
    assert latched["/tf_static"] == [QosDurability.TRANSIENT_LOCAL]
    assert messages[0][0] == "/tf_static"
    times = [time for _, time, _ in messages]
    assert times == sorted(times)
    for topic, time, message in messages:
        header = message.transforms[0].header if topic.startswith("/tf") else message.header
        assert header.stamp.sec * 10**9 + header.stamp.nanosec == time
    by_topic = {topic: message for topic, _, message in reversed(messages)}
    info = by_topic["/front/camera_info"]
    assert (info.height, info.width, info.distortion_model, info.header.frame_id) == (
        20,
        32,
        "plumb_bob",
        "front_optical",
    )
    assert info.k.tolist() == [17, 0, 15.5, 0, 18, 9.5, 0, 0, 1]
    assert info.p.tolist() == [17, 0, 15.5, 0, 0, 18, 9.5, 0, 0, 0, 1, 0]
    assert info.r.tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert info.d.tolist() == [0] * 5
    static = by_topic["/tf_static"].transforms
    assert [(t.header.frame_id, t.child_frame_id) for t in static] == [
        ("car", f) for f in ("left_optical", "front_optical", "right_optical", "lidar_top")
    ]
    assert static[2].transform.translation.x == 2
    moving = by_topic["/tf"].transforms[0]
    assert (moving.header.frame_id, moving.child_frame_id) == ("map", "car")
    odometry = by_topic["/odom"]
    assert (odometry.header.frame_id, odometry.child_frame_id) == ("map", "car")
    assert odometry.pose.pose.position.x == pytest.approx(100 - 0.08)
    cloud = by_topic["/lidar_top"]
    layout = {"x": (0, 7), "y": (4, 7), "z": (8, 7), "intensity": (12, 7), "ring": (16, 4)}
    assert {f.name: (f.offset, f.datatype) for f in cloud.fields} == layout
    assert (cloud.point_step, cloud.row_step, cloud.height, cloud.width) == (20, 1000, 1, 50)
    x, y, z = np.frombuffer(cloud.data[:12].tobytes(), "<f4")  # the LiDAR is turned left by 90 degrees
    expected = drive(1)[0].lidar.points_vehicle[0]  # type: ignore[union-attr]
    np.testing.assert_allclose([0.9 - y, 0.1 + x, 1.8 + z], expected, atol=1e-5)


def test_a_camera_with_distortion(tmp_path: Path) -> None:
    sweep = drive(1)[0]
    bent = replace(sweep.rig.cameras[1], distortion=np.array([-0.3, 0.1, 0, 0]), distortion_model="plumb_bob")
    mixed = replace(sweep, rig=replace(sweep.rig, cameras=(sweep.rig.cameras[0], bent, sweep.rig.cameras[2])))
    write_bag(tmp_path / "bag", [mixed])
    found = next(sweeps(tmp_path / "bag", vehicle_frame="car"))
    assert found.present == ("left", "front", "right")
    assert [camera.is_rectified for camera in found.rig.cameras] == [True, False, True]
    assert found.rig["front"].distortion.tolist() == [-0.3, 0.1, 0, 0]


def test_pixels_become_a_jpeg(tmp_path: Path) -> None:
    sweep = drive(1)[0]
    pixels = np.full((20, 32, 3), [200, 100, 50], dtype=np.uint8)
    write_bag(tmp_path / "bag", [replace(sweep, views={"front": replace(sweep.views["front"], image=pixels)})])
    image = next(sweeps(tmp_path / "bag", vehicle_frame="car")).views["front"].image
    assert isinstance(image, EncodedImage)
    decoded = cv2.imdecode(np.frombuffer(image.data, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_allclose(decoded[..., ::-1].mean(axis=(0, 1)), [200, 100, 50], atol=2)


def test_a_scan_that_comes_later_is_announced_then(tmp_path: Path) -> None:
    first, second = drive(2)
    write_bag(tmp_path / "bag", [replace(first, lidar=None), second])
    found = list(sweeps(tmp_path / "bag", vehicle_frame="car"))
    assert found[1].lidar is not None
    np.testing.assert_allclose(found[1].lidar.points_vehicle, second.lidar.points_vehicle, atol=1e-5)  # type: ignore[union-attr]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    target = tmp_path / "bag"
    a, b = drive(2)
    with pytest.raises(SourceError, match="no sweeps to write"):
        write_bag(target, [])
    with pytest.raises(SourceError, match=r"follows one of .* one scene at a time"):
        write_bag(target, [b, a])
    other = replace(b.rig, cameras=(b.rig.cameras[0].resized((40, 64)), *b.rig.cameras[1:]))
    with pytest.raises(SourceError, match="the rig changes at the sweep"):
        write_bag(target, [a, replace(b, rig=other)])
    far = 2**31 * 10**9
    with pytest.raises(SourceError, match="does not fit a ROS time"):
        write_bag(target, [Sweep(a.rig, far, {"front": replace(a.views["front"], stamp_ns=far)})])
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(SourceError, match="cannot be written: "):
        write_bag(tmp_path / "file" / "bag", [a])


def test_overwrite_replaces_only_a_bag_and_only_by_a_whole_one(tmp_path: Path) -> None:
    target = tmp_path / "bag"
    a, b = drive(2)
    write_bag(target, [a])
    with pytest.raises(SourceError, match="exists already"):
        write_bag(target, [a, b])
    with pytest.raises(SourceError, match="follows one of"):
        write_bag(target, [b, a], overwrite=True)
    assert len(list(sweeps(target, vehicle_frame="car"))) == 1
    write_bag(target, [a, b], overwrite=True)
    assert len(list(sweeps(target, vehicle_frame="car"))) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["bag"]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").write_bytes(b"x")
    with pytest.raises(SourceError, match="is no bag"):
        write_bag(tmp_path / "photos", [a], overwrite=True)
    assert (tmp_path / "photos" / "me.jpg").exists()


# --- bags of others ----------------------------------------------------------------------------


def header(frame: str, stamp_ns: int) -> Any:
    time = STORE.types["builtin_interfaces/msg/Time"](sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9)
    return STORE.types["std_msgs/msg/Header"](stamp=time, frame_id=frame)


def info(frame: str, k: Sequence[float], d: Sequence[float] = (), p: Sequence[float] = (0,) * 12) -> Any:
    roi = STORE.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    return STORE.types["sensor_msgs/msg/CameraInfo"](
        header=header(frame, START),
        height=20,
        width=32,
        distortion_model="plumb_bob",
        d=np.array(d, float),
        k=np.array(k, float),
        r=np.zeros(9),
        p=np.array(p, float),
        binning_x=0,
        binning_y=0,
        roi=roi,
    )


def raw(frame: str, stamp_ns: int, encoding: str = "bgr8", value: int = 0) -> Any:
    data = np.full(20 * 32 * 3, value, np.uint8)
    data[::3] = 200  # the first channel
    return STORE.types["sensor_msgs/msg/Image"](header(frame, stamp_ns), 20, 32, encoding, 0, 96, data)


def tf(parent: str, child: str, translation: Sequence[float], stamp_ns: int = START, w: float = 1.0) -> Any:
    types = STORE.types
    vector = types["geometry_msgs/msg/Vector3"](*map(float, translation))
    transform = types["geometry_msgs/msg/Transform"](vector, types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, w))
    stamped = types["geometry_msgs/msg/TransformStamped"](header(parent, stamp_ns), child, transform)
    return types["tf2_msgs/msg/TFMessage"]([stamped])


def cloud(frame: str, stamp_ns: int, points: np.ndarray) -> Any:
    """Organised, with padding, big-endian, and one point without a return."""
    types = STORE.types
    rows = np.zeros((1, len(points), 4), ">f4")
    rows[..., :3] = points
    fields = [types["sensor_msgs/msg/PointField"](name, 4 * i, 7, 1) for i, name in enumerate("xyz")]
    data = np.frombuffer(rows.tobytes(), np.uint8)
    return types["sensor_msgs/msg/PointCloud2"](
        header(frame, stamp_ns), 1, len(points), fields, True, 16, 16 * len(points), data, False
    )


def bag(
    path: Path,
    messages: Sequence[tuple[str, Any]],
    plugin: StoragePlugin = StoragePlugin.SQLITE3,
    silent_clouds: Sequence[str] = (),
    compression: CompressionMode = CompressionMode.NONE,
) -> Path:
    unopened = Writer(path, version=8, storage_plugin=plugin)
    if compression != CompressionMode.NONE:
        unopened.set_compression(compression, CompressionFormat.ZSTD)
    with unopened as writer:
        connections: dict[str, Any] = {}
        for topic in silent_clouds:
            writer.add_connection(topic, "sensor_msgs/msg/PointCloud2", typestore=STORE)
        for i, (topic, message) in enumerate(messages):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, message.__msgtype__, typestore=STORE)
            writer.write(connections[topic], START + i, STORE.serialize_cdr(message, message.__msgtype__))
    return path


K = [16, 0, 15.5, 0, 16, 9.5, 0, 0, 1]
P = [14, 0, 15, 0, 0, 14, 9, 0, 0, 0, 1, 0]


def foreign(image_topic: str = "/sensors/cam/image_raw") -> list[tuple[str, Any]]:
    """Raw images of one camera on a mast, poses by odometry, and much that is none of our business."""
    points = np.array([[1, 2, 3], [np.nan, 0, 0], [4, 5, 6]])
    depth = STORE.types["sensor_msgs/msg/Image"](header("cam", START), 1, 1, "32FC1", 0, 4, np.zeros(4, np.uint8))
    preview = STORE.types["sensor_msgs/msg/CompressedImage"](header("", START), "jpeg", np.zeros(9, np.uint8))
    return [
        ("/tf_static", tf("/mast", "/cam", [1, 0, 0])),
        ("/sensors/cam/depth/camera_info", info("cam", K)),
        ("/sensors/cam/depth/image_rect", depth),
        ("/node/preview/compressed", preview),
        ("/sensors/cam/camera_info", info("cam", K, [0.1, 0, 0, 0, 0], P)),
        (image_topic, raw("cam", START)),
        (image_topic, raw("cam", START + 500 * MS)),
        ("/velodyne_points", cloud("mast", START + 10 * MS, points)),
        ("/tf_static", tf("base_link", "mast", [0, 0, 2])),
        ("/odometry", odometry(START, 0.0)),
        ("/odometry", odometry(START + 1000 * MS, 8.0)),
        ("/chatter", STORE.types["std_msgs/msg/String"]("hello")),
    ]


def odometry(stamp_ns: int, x: float, child: str = "base_link", w: float = 1.0, frame: str = "odom") -> Any:
    types = STORE.types
    zero = types["geometry_msgs/msg/Vector3"](0.0, 0.0, 0.0)
    place = types["geometry_msgs/msg/Pose"](
        types["geometry_msgs/msg/Point"](x, 0.0, 0.0), types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, w)
    )
    return types["nav_msgs/msg/Odometry"](
        header(frame, stamp_ns),
        child,
        types["geometry_msgs/msg/PoseWithCovariance"](place, np.zeros(36)),
        types["geometry_msgs/msg/TwistWithCovariance"](types["geometry_msgs/msg/Twist"](zero, zero), np.zeros(36)),
    )


@pytest.mark.parametrize("plugin", [StoragePlugin.SQLITE3, StoragePlugin.MCAP])
def test_a_bag_of_others(tmp_path: Path, plugin: StoragePlugin) -> None:
    found = list(sweeps(bag(tmp_path / "bag", foreign(), plugin)))
    assert [sweep.stamp_ns for sweep in found] == [START, START + 500 * MS]
    assert found[0].rig.names == ("sensors/cam",)
    camera = found[0].rig.cameras[0]
    np.testing.assert_array_equal(camera.camera_to_vehicle[:3, 3], [1, 0, 2])  # a chain of two
    assert camera.intrinsics[0, 0] == 16  # K and D: the images are raw
    assert camera.distortion.tolist() == [0.1, 0, 0, 0, 0]
    view = found[1].views["sensors/cam"]
    assert isinstance(view.image, np.ndarray)
    np.testing.assert_array_equal(view.image[3, 5], [0, 0, 200])  # blue, as RGB
    assert view.vehicle_to_map is not None
    np.testing.assert_allclose(view.vehicle_to_map[:3, 3], [4, 0, 0])
    scan = found[0].lidar
    assert scan is not None
    np.testing.assert_array_equal(scan.points_vehicle, [[1, 2, 5], [4, 5, 8]])
    assert found[1].lidar is None  # the only scan is 490 ms away


@pytest.mark.parametrize(("child", "height"), [("base_link", 0.0), ("base_footprint", 0.3)])
def test_a_mount_below_the_vehicle_is_no_pose(tmp_path: Path, child: str, height: float) -> None:
    """base_footprint over base_link is fixed: the drive is in the odometry, of whichever of the two."""
    poses = [("/odometry", odometry(START + 1000 * MS * k, 8.0 * k, child)) for k in range(2)]
    footprint = ("/tf_static", tf("base_footprint", "base_link", [0, 0, 0.3]))
    found = list(sweeps(bag(tmp_path / "bag", [footprint, *without("/odometry"), *poses])))
    for sweep, x in zip(found, (0.0, 4.0), strict=True):
        place = sweep.views["sensors/cam"].vehicle_to_map
        assert place is not None
        np.testing.assert_allclose(place[:3, 3], [x, 0, height])


def vehicle_places(path: Path) -> list[list[float] | None]:
    found = [sweep.views["sensors/cam"].vehicle_to_map for sweep in sweeps(path)]
    return [None if pose is None else pose[:3, 3].round(6).tolist() for pose in found]


@pytest.mark.parametrize(("poses", "expected"), [(2, [4, 0, 0]), (1, [1.5, 0, 0.3]), (0, [1.5, 0, 0.3])])
def test_an_odometry_that_is_known_as_often_comes_before_moving_transforms(
    tmp_path: Path, poses: int, expected: list[float]
) -> None:
    """One that has ended says nothing of the second sweep."""
    moving = [("/tf", tf("odom", "base_footprint", [3.0 * k, 0, 0], START + 1000 * MS * k)) for k in range(2)]
    footprint = ("/tf_static", tf("base_footprint", "base_link", [0, 0, 0.3]))
    told = [("/odometry", odometry(START + 1000 * MS * k, 8.0 * k)) for k in range(poses)]
    path = bag(tmp_path / "bag", [footprint, *moving, *without("/odometry"), *told])
    assert vehicle_places(path)[1] == expected


@pytest.mark.parametrize(
    ("links", "topics"),
    [
        (("map>odom", "odom>base_link"), {}),
        (("map>odom", "odom>base_link"), {"/odom": "odom"}),
        (("map>odom", "odom>base_link"), {"/odometry/global": "map"}),
        (("map>base_link",), {"/odom": "odom"}),
        (("map>base_link",), {"/odometry/global": "map", "/odometry/local": "robot/odom"}),
        (("map>odom", "odom>base_footprint", "base_footprint>base_link"), {}),
    ],
)
def test_a_correction_of_the_localisation_is_no_motion(
    tmp_path: Path, links: Sequence[str], topics: dict[str, str]
) -> None:
    """5 m/s, and 1.5 m of correction between an image and the scan 45 ms after it, as of AMCL or GNSS."""
    messages = []
    for stamp_ns in range(START - 100 * MS, START + 700 * MS, 25 * MS):
        seconds, correction = (stamp_ns - START) / 1e9, 1.5 * (stamp_ns > START + 25 * MS)
        driven = {"map>odom": correction, "map>base_link": 5 * seconds + correction}
        driven["base_footprint>base_link"] = 0.0  # on its springs
        for link in links:
            parent, child = link.split(">")
            messages.append(("/tf", tf(parent, child, [driven.get(link, 5 * seconds), 0, 0], stamp_ns)))
        for topic, frame in topics.items():
            x = 5 * seconds + correction * (frame == "map")
            messages.append((topic, odometry(stamp_ns, x, frame=frame)))
    scan = ("/velodyne_points", cloud("mast", START + 45 * MS, np.zeros((1, 3)) + 1))
    sweep = next(sweeps(bag(tmp_path / "bag", [*messages, scan, *without("/odometry", "/velodyne_points")])))
    assert sweep.lidar is not None
    moved = scan_at_pose(sweep.lidar, sweep.views["sensors/cam"].vehicle_to_map)
    np.testing.assert_allclose(moved, [[1 + 0.225, 1, 3]], atol=1e-6)


@pytest.mark.parametrize("child", ["base_footprint", "axle"])
def test_a_vehicle_that_rocks_on_its_springs_is_where_the_odometry_says(tmp_path: Path, child: str) -> None:
    """base_link moves above base_footprint, the root, which is no map."""
    rocking = [("/tf", tf("base_footprint", "base_link", [0, 0, 0.1 * k], START + 1000 * MS * k)) for k in range(2)]
    axle = ("/tf_static", tf("base_footprint", "axle", [0, 0, 0.3]))
    poses = [("/odometry", odometry(START + 1000 * MS * k, 8.0 * k, child)) for k in range(2)]
    path = bag(tmp_path / "bag", [axle, *rocking, *without("/odometry"), *poses])
    below = -0.3 if child == "axle" else 0
    assert vehicle_places(path) == [[0, 0, below], [4, 0, pytest.approx(below + 0.05)]]


def test_the_first_odometry_of_the_vehicle_counts(tmp_path: Path) -> None:
    gps = [("/gps/odometry", odometry(START + 1000 * MS * k, 100.0, "gps_antenna")) for k in range(2)]
    assert vehicle_places(bag(tmp_path / "bag", [*gps, *foreign()])) == [[0, 0, 0], [4, 0, 0]]


def test_poses_that_are_none_are_left_out_as_the_node_does(tmp_path: Path) -> None:
    """An unset quaternion of an odometry that has not begun, and a position that is lost."""
    unset = ("/odometry", odometry(START + 200 * MS, 50.0, w=0.0))
    lost = ("/odometry", odometry(START + 400 * MS, float("nan")))
    assert vehicle_places(bag(tmp_path / "bag", [*foreign(), unset, lost])) == [[0, 0, 0], [4, 0, 0]]


def test_poses_without_a_stamp_are_left_out_as_the_node_does(tmp_path: Path) -> None:
    """Else the first images would be on the way from a pose of 1970."""
    late = [("/odometry", odometry(START + 400 * MS * k, 8.0 * k)) for k in (1, 2)]
    path = bag(tmp_path / "bag", [("/odometry", odometry(0, 50.0)), *without("/odometry"), *late])
    assert vehicle_places(path) == [None, [10, 0, 0]]
    unstamped = bag(tmp_path / "none", [("/odometry", odometry(0, 50.0)), *without("/odometry")])
    assert vehicle_places(unstamped) == [None, None]


def test_an_odometry_without_any_pose_is_told_where_no_other_says_it(tmp_path: Path) -> None:
    unset = [("/unset", odometry(START + 1000 * MS * k, 8.0 * k, w=0.0)) for k in range(2)]
    with pytest.raises(SourceError, match="/unset: no pose is one: a quaternion must have a fin"):
        list(sweeps(bag(tmp_path / "unset", [*without("/odometry"), *unset])))
    assert vehicle_places(bag(tmp_path / "both", [*unset, *foreign()])) == [[0, 0, 0], [4, 0, 0]]


def test_a_map_that_was_published_once_hides_no_motion(tmp_path: Path) -> None:
    moving = [("/tf", tf("odom", "base_link", [3.0 * k, 0, 0], START + 1000 * MS * k)) for k in range(2)]
    localised = ("/tf", tf("map", "odom", [50, 0, 0], START + 400 * MS))
    assert vehicle_places(bag(tmp_path / "bag", [localised, *moving, *without("/odometry")])) == [
        [0, 0, 0],
        [1.5, 0, 0],
    ]


def compressed(format_: str, stamp_ns: int = START, picture: np.ndarray | None = None) -> Any:
    data = np.zeros(9, np.uint8) if picture is None else cv2.imencode(".png", picture)[1].ravel()
    return STORE.types["sensor_msgs/msg/CompressedImage"](header("cam", stamp_ns), format_, data)


@pytest.mark.parametrize(
    ("topics", "expected"),
    [
        (("ego_mask", "image_raw"), "image_raw"),
        (("detections/compressed", "image_raw/compressed"), "image_raw/compressed"),
        (("detections/compressed", "image_raw"), "image_raw"),
        (("image_color", "image_raw"), "image_raw"),
        (("image_raw", "image_unrectified"), "image_raw"),
        (("image_raw", "image_color_corrected", "image_color"), "image_raw"),
        (("image_raw/compressed", "image_rect"), "image_rect"),
        (("image_raw/compressed", "image_rectified"), "image_rectified"),
        (("image_rect", "image_rect_color"), "image_rect"),
        (("image_color/compressed", "image_raw"), "image_color/compressed"),
        (("photo", "colors"), "colors"),
    ],
)
def test_which_of_several_pictures_is_the_image_of_a_camera(
    tmp_path: Path, topics: Sequence[str], expected: str
) -> None:
    messages = [(f"/a/{t}", compressed("jpeg") if t.endswith("/compressed") else raw("cam", START)) for t in topics]
    with open_bag(bag(tmp_path / "bag", messages)) as opened:
        assert find_cameras(opened)["a"].image == f"/a/{expected}"


def test_what_the_node_published_beside_its_depth_is_no_camera(tmp_path: Path) -> None:
    """Of a bag with the images and the depth of a drive, as it is recorded to look at both."""
    messages = [("/a/image_raw", raw("cam", START)), ("/a/depth/color", raw("cam", START, "rgb8"))]
    messages += [(topic, info("cam", K)) for topic in ("/a/camera_info", "/a/depth/camera_info")]
    with open_bag(bag(tmp_path / "bag", messages)) as opened:
        assert {name: topics.image for name, topics in find_cameras(opened).items()} == {
            "a": "/a/image_raw",
            "a/depth": "",
        }


@pytest.mark.parametrize(
    ("topic", "rectified"),
    [
        ("/c/image_rect/compressed", True),
        ("/c/image_rect_color", True),
        ("/c/image_rectified", True),
        ("/c/image_unrectified", False),
        ("/c/image_color_corrected", False),
        ("/rect/image_raw", False),
    ],
)
def test_rectified_topics_have_the_word_in_their_name(topic: str, rectified: bool) -> None:
    assert is_rectified_topic(topic) == rectified


@pytest.mark.parametrize(
    ("format_", "is_photograph"),
    [
        ("jpeg", True),
        ("rgb8; jpeg compressed bgr8", True),
        ("strange8; jpeg compressed bgr8", True),
        ("16UC1; png compressed ", False),
        ("32FC1; png compressed", False),
        ("16UC1; compressedDepth png", False),
        ("compressedDepth", False),
    ],
)
def test_compressed_depth_is_no_photograph(tmp_path: Path, format_: str, is_photograph: bool) -> None:
    messages = [*foreign(), ("/a/camera_info", info("cam", K)), ("/a/image_rect/compressed", compressed(format_))]
    found, _ = read_rig_of_bag(bag(tmp_path / "bag", messages))
    assert ("a" in found.names) == is_photograph


def test_a_compressed_mosaic_keeps_the_name_of_its_pattern(tmp_path: Path) -> None:
    picture = np.tile(np.array([[200, 100], [100, 20]], np.uint8), (10, 16))
    image = compressed("bayer_rggb8; png compressed ", START, picture)
    messages = [("/sensors/cam/image_raw/compressed", image), *without("/sensors/cam/image_raw")]
    [sweep] = sweeps(bag(tmp_path / "bag", messages))
    encoded = sweep.views["sensors/cam"].image
    assert isinstance(encoded, EncodedImage)
    np.testing.assert_array_equal(decode(encoded), np.broadcast_to([200, 100, 20], (20, 32, 3)))


def test_images_of_a_12_bit_sensor_are_scaled_alike_all_the_drive(tmp_path: Path) -> None:
    kind, topic = STORE.types["sensor_msgs/msg/Image"], "/sensors/cam/image_raw"
    values = [np.full(20 * 32, value, "<u2").view(np.uint8) for value in (0xFFF, 0x0F0)]
    images = [
        (topic, kind(header("cam", START + i * 500 * MS), 20, 32, "mono16", 0, 64, v)) for i, v in enumerate(values)
    ]
    found = sweeps(bag(tmp_path / "bag", [*without(topic), *images]))
    assert [np.unique(sweep.views["sensors/cam"].image).tolist() for sweep in found] == [[255], [15]]


def test_images_of_an_unknown_encoding_are_named(tmp_path: Path) -> None:
    """Neither are they depth, nor may the camera be missing from the rig without a word."""
    planar = [("/a/camera_info", info("cam", K)), ("/a/image_raw", raw("cam", START, "nv24"))]
    path = bag(tmp_path / "bag", [*planar, *foreign()])
    wrong = "/a/image_raw: its images have the encoding 'nv24', expected one of rgb8, "
    with pytest.raises(RigError, match=f"{wrong}.*--cameras sensors/cam$"):
        read_rig_of_bag(path)
    assert read_rig_of_bag(path, cameras=["sensors/cam"])[0].names == ("sensors/cam",)
    camera = Camera("a", (20, 32), np.reshape(K, (3, 3)), np.eye(4))
    with pytest.raises(SourceError, match=f"{wrong}.*leave the camera out of the rig"):
        list(sweeps(path, Rig((camera, replace(camera, name="sensors/cam")))))
    beside = bag(tmp_path / "beside", [("/sensors/cam/image_rect", raw("cam", START, "nv24")), *foreign()])
    assert len(list(sweeps(beside))) == 2
    masked = bag(tmp_path / "masked", [*planar, ("/a/mask", raw("cam", START)), *foreign()])
    with pytest.raises(RigError, match=wrong):
        read_rig_of_bag(masked)


@pytest.mark.parametrize(
    ("stamp_ns", "problem"),
    [
        (0, "bad stamp: 0; the driver does not fill header.stamp, correct or replace it"),
        (-(10**9), "bad stamp: -1 s and 0 ns, expected 0 to"),
        ((2**31 - 1) * 10**9, "bad stamp: 2147483647 s and 0 ns"),
    ],
)
@pytest.mark.parametrize("topic", ["/sensors/cam/image_raw", "/velodyne_points"])
def test_a_topic_without_any_stamp_is_named(tmp_path: Path, topic: str, stamp_ns: int, problem: str) -> None:
    messages = [(t, replace(m, header=header("mast", stamp_ns)) if t == topic else m) for t, m in foreign()]
    with pytest.raises(SourceError, match=f"{topic}: {problem}"):
        list(sweeps(bag(tmp_path / "bag", messages)))


def test_single_messages_without_a_stamp_are_left_out_and_told_as_the_node_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The others keep their places: each sweep has its own image, whichever way the bag is read."""
    image, lidar = "/sensors/cam/image_raw", "/velodyne_points"
    starting = [(image, raw("cam", stamp_ns, value=50)) for stamp_ns in (0, -(10**9))]
    later = [(image, raw("cam", START + 1000 * MS, value=100))]
    scan_of_none = (lidar, cloud("mast", 0, np.full((1, 3), 9.0)))
    path = bag(tmp_path / "bag", [*starting, scan_of_none, *foreign(), *starting[:1], *later])
    for reading in (sweeps, BagDrive):
        found = list(reading(path))
        assert [sweep.stamp_ns for sweep in found] == [START, START + 500 * MS, START + 1000 * MS]
        pixels = [np.asarray(sweep.views["sensors/cam"].image)[0, 0, 0] for sweep in found]
        assert pixels == [0, 0, 100]
        scan = found[0].lidar
        assert scan is not None
        np.testing.assert_array_equal(scan.points_vehicle, [[1, 2, 5], [4, 5, 8]])
        assert caplog.messages == [
            f"bag {path}: {image}: 3 of 6 messages left out: bad stamp: 0; the driver does not fill header.stamp, "
            "correct or replace it",
            f"bag {path}: {lidar}: 1 of 2 messages left out: bad stamp: 0; the driver does not fill header.stamp, "
            "correct or replace it",
        ]
        caplog.clear()


def test_points_at_the_sensor_itself_are_no_returns(tmp_path: Path) -> None:
    points = np.array([[0, 0, 0], [1, 2, 3], [0, 0, 0], [0, 0, -1]])
    messages = [*without("/velodyne_points"), ("/velodyne_points", cloud("mast", START, points))]
    scan = next(sweeps(bag(tmp_path / "bag", messages))).lidar
    assert scan is not None
    np.testing.assert_array_equal(scan.points_vehicle, [[1, 2, 5], [0, 0, 1]])


@pytest.mark.parametrize(
    ("image", "changes", "message"),
    [
        ("image_raw", {"binning_x": 2}, "binned or cropped image .binning 2x0"),
        ("image_raw", {"roi": STORE.types["sensor_msgs/msg/RegionOfInterest"](0, 0, 10, 32, False)}, "roi 32x10"),
        ("image_rect", {"p": np.zeros(12)}, "no P but a distortion"),
        ("image_rect", {"k": np.zeros(9)}, "K of the CameraInfo of 'sensors/cam' is zero"),
    ],
)
def test_a_camera_info_that_the_node_refuses_is_refused(
    tmp_path: Path, image: str, changes: dict[str, Any], message: str
) -> None:
    topic = "/sensors/cam/camera_info"
    messages = [(t, replace(m, **changes) if t == topic else m) for t, m in foreign(f"/sensors/cam/{image}")]
    with pytest.raises(RigError, match=f"{topic}: .*{message}"):
        read_rig_of_bag(bag(tmp_path / "bag", messages))


def test_a_broken_joint_is_named_only_where_it_is_missed(tmp_path: Path) -> None:
    wheel = [("/tf", tf("base_link", "wheel", [0, 0, 0], w=float("nan")))]
    assert len(list(sweeps(bag(tmp_path / "wheel", [*wheel, *foreign()])))) == 2
    mast = [("/tf_static", tf("base_link", "mast", [0, 0, 0], w=w)) for w in (0.0, float("nan"))]
    camera = [("/tf_static", tf("mast", "cam", [1, 0, 0]))]
    path = bag(tmp_path / "mast", [*wheel, *mast, *camera, *without("/tf_static")])
    with pytest.raises(RigError, match=r"'cam' is not fixed .*: /tf_static: base_link -> mast: .* got \[0"):
        read_rig_of_bag(path)
    later = bag(tmp_path / "later", [*mast, *foreign()])  # one that is right comes after it
    np.testing.assert_array_equal(read_rig_of_bag(later)[0].cameras[0].camera_to_vehicle[:3, 3], [1, 0, 2])


def test_mounts_on_the_topic_of_what_moves(tmp_path: Path) -> None:
    mounts = [("/tf", message) for topic, message in foreign() if topic == "/tf_static"]
    with pytest.raises(
        RigError,
        match=r"by /tf_static, which has nothing \(/tf, which is of what moves, has base_link, cam, mast\); give",
    ):
        read_rig_of_bag(bag(tmp_path / "bag", [*mounts, *without("/tf_static")]))


@pytest.mark.parametrize(
    "topic", ["/tf_static", "/sensors/cam/image_raw", "/sensors/cam/camera_info", "/velodyne_points"]
)
def test_a_topic_whose_metadata_was_edited(tmp_path: Path, topic: str) -> None:
    """rosbags takes the connection of metadata.yaml for another one than that in the file, which has no messages."""
    path = bag(tmp_path / "bag", foreign(), StoragePlugin.MCAP)
    metadata = yaml.safe_load((path / "metadata.yaml").read_text())
    policies = dict.fromkeys(("history", "depth", "reliability", "durability", "liveliness"), 1)
    times = {key: {"sec": 0, "nsec": 0} for key in ("deadline", "lifespan", "liveliness_lease_duration")}
    profile = {**policies, **times, "avoid_ros_namespace_conventions": False}
    for described in metadata["rosbag2_bagfile_information"]["topics_with_message_count"]:
        if described["topic_metadata"]["name"] == topic:
            described["topic_metadata"]["offered_qos_profiles"] = yaml.safe_dump([profile])
    (path / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    with pytest.raises(FsmdeError, match=rf"{topic} has \d messages by metadata.yaml, of which none can be found"):
        list(sweeps(path))


def with_unusable_cameras() -> list[tuple[str, Any]]:
    """A webcam without a calibration and a camera that is nowhere on the vehicle beside a good one."""
    return [
        ("/webcam/camera_info", info("cam", [0] * 9)),
        ("/webcam/image_raw", raw("cam", START)),
        ("/lost/camera_info", info("nowhere", K)),
        ("/lost/image_raw", raw("nowhere", START)),
        *foreign(),
    ]


def test_cameras_can_be_left_out_of_the_rig(tmp_path: Path) -> None:
    path = bag(tmp_path / "bag", with_unusable_cameras())
    instead = "rig_from_bag with --cameras sensors/cam$"
    with pytest.raises(RigError, match=f"/lost/camera_info: its frame 'nowhere' is not fixed .*{instead}"):
        read_rig_of_bag(path)
    with pytest.raises(RigError, match=f"/webcam/camera_info: .*uncalibrated.*{instead}"):
        read_rig_of_bag(path, cameras=["webcam", "sensors/cam"])
    assert read_rig_of_bag(path, cameras=["/sensors/cam"])[0].names == ("sensors/cam",)
    with pytest.raises(
        SourceError, match="no camera front with a camera_info; it has lost, sensors/cam, sensors/cam/d"
    ):
        read_rig_of_bag(path, cameras=["sensors/cam", "front"])
    with pytest.raises(
        SourceError, match="/sensors/cam/depth/camera_info: has no messages, or is of depth images; take"
    ):
        read_rig_of_bag(path, cameras=["sensors/cam", "sensors/cam/depth"])


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (("image_rect", "image_raw"), ("input.transport:=raw",)),
        (("image_raw",), ("input.rectified:=false", "input.transport:=raw")),
        (("image_raw", "image_raw/compressed"), ("input.rectified:=false",)),
        (("image_raw", "image_rect/compressed"), ()),
        (("image_color",), ("input.rectified:=false", "input.transport:=raw")),
    ],
)
def test_the_parameters_that_the_node_needs(tmp_path: Path, images: Sequence[str], expected: tuple[str, ...]) -> None:
    jpeg_message = STORE.types["sensor_msgs/msg/CompressedImage"](header("cam", START), "jpeg", np.zeros(9, np.uint8))
    messages = [(f"/a/{i}", jpeg_message if i.endswith("/compressed") else raw("cam", START)) for i in images]
    with open_bag(bag(tmp_path / "one", messages)) as opened:
        topics = node_topics(opened, ["a"])
    renamed = {"/a/image_raw": "/a/image_color"} if images == ("image_color",) else {}
    assert (topics.form.changes(), topics.renamed, topics.left) == (expected, renamed, ())
    other = [("/b/image_raw", raw("cam", START))]
    with open_bag(bag(tmp_path / "two", [*messages, *other])) as opened:
        topics = node_topics(opened, ["a", "b"])
    mixed = ("input.rectified:=false", "input.transport:=raw")
    assert (topics.form.changes(), topics.renamed, topics.left) == (mixed, renamed, ())


def test_a_camera_may_be_named_by_its_whole_name(tmp_path: Path) -> None:
    """With a slash in front, as the node takes it too."""
    path = bag(tmp_path / "bag", foreign("/sensors/cam/image_color"))
    plain, _ = read_rig_of_bag(path)
    whole = Rig((replace(plain.cameras[0], name="/sensors/cam"),))
    assert [list(sweep.views) for sweep in sweeps(path, whole)] == [["/sensors/cam"]] * 2
    with open_bag(path) as opened:
        assert node_topics(opened, whole.names) == node_topics(opened, plain.names)


def test_a_rectified_topic_takes_the_projection(tmp_path: Path) -> None:
    found, _ = read_rig_of_bag(bag(tmp_path / "bag", foreign("/sensors/cam/image_rect")))
    camera = found.cameras[0]
    np.testing.assert_array_equal(camera.intrinsics, [[14, 0, 15], [0, 14, 9], [0, 0, 1]])
    assert camera.is_rectified


@pytest.mark.parametrize(("images", "is_told"), [("image_rect", True), ("image_raw", False)])
def test_images_that_are_turned_against_their_lens_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], images: str, is_told: bool
) -> None:
    """Those of a stereo pair; no message says whether the frame is that of the lens or of the images."""
    messages = foreign(f"/sensors/cam/{images}")
    turn = rigid([np.cos(0.01), np.sin(0.01), 0, 0], [0, 0, 0])[:3, :3]
    for topic, message in messages:
        if topic == "/sensors/cam/camera_info":
            message.r[:] = turn.ravel()
    path = bag(tmp_path / "bag", messages)
    assert check_rig(["--bag", str(path), "--output", str(tmp_path / "checked")]) in (0, 1)
    said = capsys.readouterr().out
    what = "note: sensors/cam: its rectified images are turned by 1.1 degrees against its lens (R of its CameraInfo)"
    assert (what in said) == is_told
    assert ("note: the frame of a camera must be that of its rectified images" in said) == is_told


def test_images_that_are_rectified_already_are_not_rectified_again(tmp_path: Path) -> None:
    """The rig file may give the lens, as a calibration does."""
    path = bag(tmp_path / "bag", foreign("/sensors/cam/image_rect"))
    lens = {"distortion": np.array([0.1, 0, 0, 0, 0]), "distortion_model": "plumb_bob"}
    given = Rig((Camera("sensors/cam", (20, 32), np.reshape(K, (3, 3)), np.eye(4), **lens),))
    assert next(sweeps(path, given)).rig["sensors/cam"].is_rectified
    assert BagDrive(path, given).rig["sensors/cam"].is_rectified
    bonnet = ([[0, 15], [31, 15], [31, 19]],)  # of the images as they come, so it stays
    occluded = replace(given, cameras=(replace(given.cameras[0], self_occlusion=bonnet),))
    assert next(sweeps(path, occluded)).rig["sensors/cam"].self_occlusion[0].tolist() == bonnet[0]
    raw_images = bag(tmp_path / "raw", foreign())
    assert not next(sweeps(raw_images, given)).rig["sensors/cam"].is_rectified


@pytest.mark.parametrize(("projection", "expected"), [(P, [14, 14, 15, 9]), ((0,) * 12, [16, 16, 15.5, 9.5])])
def test_images_that_are_rectified_already_have_the_projection_of_their_driver(
    tmp_path: Path, projection: Sequence[float], expected: list[float]
) -> None:
    """The K of a lens in the rig file is of the raw images; the node goes by the CameraInfo likewise."""
    topic = "/sensors/cam/camera_info"
    messages = [m for m in foreign("/sensors/cam/image_rect") if m[0] != topic]
    path = bag(tmp_path / "bag", [(topic, info("cam", K, [0.1, 0, 0, 0, 0], projection)), *messages])
    lens = {"distortion": np.array([0.1, 0, 0, 0, 0]), "distortion_model": "plumb_bob"}
    given = Rig((Camera("sensors/cam", (20, 32), np.reshape(K, (3, 3)), np.eye(4), **lens),))
    k = next(sweeps(path, given)).rig["sensors/cam"].intrinsics
    assert [k[0, 0], k[1, 1], k[0, 2], k[1, 2]] == expected
    without_lens = given.rectified()  # whoever wrote this knows the rectified images
    assert next(sweeps(path, without_lens)).rig["sensors/cam"].intrinsics[0, 0] == 16


@pytest.mark.parametrize(
    ("model", "coefficients", "expected"),
    [("equidistant", [0.0] * 4, "equidistant"), ("fisheye", [0.1] * 4, "equidistant"), ("", [0.0] * 5, "none")],
)
def test_lenses_whose_zeros_say_much_or_nothing(
    tmp_path: Path, model: str, coefficients: list[float], expected: str
) -> None:
    """Zeros of a fisheye lens are r = f theta; those of no model at all are no lens."""
    messages = foreign()
    index = [topic for topic, _ in messages].index("/sensors/cam/camera_info")
    seen = replace(messages[index][1], distortion_model=model, d=np.array(coefficients))
    messages[index] = (messages[index][0], seen)
    [camera] = read_rig_of_bag(bag(tmp_path / "bag", messages))[0].cameras
    assert camera.distortion_model == expected
    assert camera.is_rectified == (expected == "none")


def test_depth_of_the_node_is_no_lidar(tmp_path: Path) -> None:
    """Recorded beside the images, as bag_to_video asks for: it must not be compared with itself."""
    fused = cloud("base_link", START + 10 * MS, np.ones((3, 3)))
    more = [STORE.types["sensor_msgs/msg/PointField"](name, 12, 7, 1) for name in ("stddev", "view")]
    fused = replace(fused, fields=[*fused.fields, *more])
    without_lidar = [message for message in foreign() if message[0] != "/velodyne_points"]
    path = bag(tmp_path / "bag", [*without_lidar, ("/surround_depth/points", fused)])
    assert next(sweeps(path)).lidar is None
    assert next(sweeps(path, lidar_topic="/surround_depth/points")).lidar is not None
    both = bag(tmp_path / "both", [*foreign(), ("/surround_depth/points", fused)])
    lidar = next(sweeps(both)).lidar
    assert lidar is not None
    assert lidar.name == "velodyne_points"


def test_clouds_that_never_came_are_no_lidar(tmp_path: Path) -> None:
    """A recorder keeps every topic that was announced."""
    lidar = next(sweeps(bag(tmp_path / "bag", foreign(), silent_clouds=["/lidar_rear/points"]))).lidar
    assert lidar is not None
    assert lidar.name == "velodyne_points"


def test_an_anchor_that_is_no_camera_is_named(tmp_path: Path) -> None:
    path = bag(tmp_path / "bag", foreign())
    for read in (lambda: next(sweeps(path, anchor="fornt")), lambda: BagDrive(path, anchor="fornt")):
        with pytest.raises(SourceError, match="the anchor 'fornt' is no camera of the rig: sensors/cam"):
            read()


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
def test_a_bag_in_several_files(tmp_path: Path, order: list[int]) -> None:
    """Within a file messages lie by their log time; the clock may have been set back before the next one."""
    whole, parts = drive(8), [tmp_path / "part_0", tmp_path / "part_1"]
    for path, sweeps_of_part in zip(parts, (whole[:4], whole[4:]), strict=True):
        write_bag(path, sweeps_of_part)
    metadata = yaml.safe_load((parts[0] / "metadata.yaml").read_text())
    described = metadata["rosbag2_bagfile_information"]
    described["relative_file_paths"] = [f"part_{i}.mcap" for i in order]
    parts[1].joinpath("part_1.mcap").rename(parts[0] / "part_1.mcap")
    (parts[0] / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    opened = BagDrive(parts[0], vehicle_frame="car", anchor="front")
    assert len(opened) == 8
    for found in (list(sweeps(parts[0], vehicle_frame="car", anchor="front")), list(opened)):
        for a, b in zip(found, whole, strict=True):
            same(a, b)


def test_a_given_rig_needs_no_transforms(tmp_path: Path) -> None:
    path = bag(tmp_path / "bag", [m for m in foreign() if m[0] not in ("/tf_static", "/sensors/cam/camera_info")])
    given = Rig((Camera("sensors/cam", (20, 32), np.reshape(K, (3, 3)), np.eye(4)),))
    found = list(sweeps(path, given, lidars={"mast": rigid([1, 0, 0, 0], [0, 0, 5])}))
    assert len(found) == 2
    assert found[0].rig is given
    assert found[0].lidar is not None
    np.testing.assert_array_equal(found[0].lidar.points_vehicle, [[1, 2, 8], [4, 5, 11]])
    with pytest.raises(SourceError, match="its frame 'mast' is not fixed to the vehicle frame 'base_link'"):
        list(sweeps(path, given))
    assert next(sweeps(path, given, lidar_topic="none")).lidar is None


def test_one_file_without_its_folder(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", drive(2))
    assert len(list(sweeps(tmp_path / "bag" / "bag.mcap", vehicle_frame="car"))) == 2


def without(*topics: str) -> list[tuple[str, Any]]:
    return [m for m in foreign() if m[0] not in topics]


@pytest.mark.parametrize(
    ("messages", "message"),
    [
        (
            without("/sensors/cam/camera_info", "/sensors/cam/depth/camera_info"),
            r"no topic <camera>/camera_info .* it has .*/chatter \(std_msgs/msg/String\)",
        ),
        (without("/sensors/cam/camera_info"), "have no messages or are of depth images only"),
        (
            [("/camera_info", info("cam", K)), ("/image_raw", raw("cam", START)), *foreign()],
            r"/camera_info: nothing stands before camera_info, .* in a namespace",
        ),
        (
            without("/sensors/cam/image_raw"),
            r"no images of any camera of the rig \(sensors/cam\), expected topics such",
        ),
        (
            without("/tf_static"),
            "its frame 'cam' is not fixed to the vehicle frame 'base_link' by /tf_static, which has n",
        ),
        ([("/sensors/cam/camera_info", info("cam", [0] * 9)), *foreign()], "uncalibrated"),
        ([("/tf_static", tf("mast", "cam", [float("inf"), 0, 0])), *without("/tf_static")], "translation is not fin"),
        ([("/tf_static", tf("mast", "cam", [0, 0, 0], w=0.0)), *without("/tf_static")], "a quaternion must have a fin"),
        (
            [*foreign(), ("/other", cloud("mast", START, np.zeros((1, 3))))],
            "which of /other, /velodyne_points is the LiDAR",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_said(tmp_path: Path, messages: list[tuple[str, Any]], message: str) -> None:
    with pytest.raises(FsmdeError, match=message) as caught:
        list(sweeps(bag(tmp_path / "bag", messages)))
    assert str(tmp_path / "bag") in str(caught.value)


def test_messages_that_contradict_themselves(tmp_path: Path) -> None:
    image = replace_data(raw("cam", START), 10)
    with pytest.raises(SourceError, match=r"/sensors/cam/image_raw at 16\d* ns: the image has 10 bytes"):
        list(sweeps(bag(tmp_path / "a", [("/sensors/cam/image_raw", image), *without("/sensors/cam/image_raw")])))
    scan = replace_data(cloud("mast", START, np.zeros((3, 3))), 47)
    with pytest.raises(SourceError, match=r"/velodyne_points at 16\d* ns: the cloud has 47 bytes"):
        list(sweeps(bag(tmp_path / "b", [("/velodyne_points", scan), *without("/velodyne_points")])))
    with pytest.raises(RigError, match="is not fixed to the vehicle frame 'car'"):
        read_rig_of_bag(tmp_path / "a", vehicle_frame="car")
    with pytest.raises(SourceError, match="no PointCloud2 on /x; it has /velodyne_points"):
        list(sweeps(tmp_path / "a", lidar_topic="/x"))


def replace_data(message: Any, size: int) -> Any:
    message.data = message.data[:size]
    return message


def test_no_bag_and_damaged_bags(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"cannot be opened: .*nuscenes_to_bag and ddad_to_bag make one"):
        list(sweeps(tmp_path / "none"))
    with pytest.raises(SourceError, match="cannot be opened"):
        list(sweeps(tmp_path))
    write_bag(tmp_path / "bag", drive(3))
    storage = tmp_path / "bag" / "bag.mcap"
    whole = storage.read_bytes()
    for data in (b"", b"rubbish" * 100, whole[: len(whole) // 2], whole[:-9]):
        storage.write_bytes(data)
        with pytest.raises(SourceError, match=f"bag {tmp_path / 'bag'}: "):
            list(sweeps(tmp_path / "bag", vehicle_frame="car"))
    storage.write_bytes(whole)
    (tmp_path / "bag" / "metadata.yaml").write_text("rosbag2_bagfile_information: [")
    with pytest.raises(SourceError, match="cannot be opened"):
        list(sweeps(tmp_path / "bag", vehicle_frame="car"))


@pytest.mark.parametrize("seed", range(8))
def test_flipped_bytes_never_end_in_a_traceback(tmp_path: Path, seed: int) -> None:
    write_bag(tmp_path / "bag", drive(2))
    storage = tmp_path / "bag" / "bag.mcap"
    data = bytearray(storage.read_bytes())
    rng = np.random.default_rng(seed)
    for at in rng.integers(0, len(data), 40):
        data[at] ^= 1 << int(rng.integers(0, 8))
    storage.write_bytes(data)
    with contextlib.suppress(FsmdeError):
        list(sweeps(tmp_path / "bag", vehicle_frame="car"))


@pytest.mark.parametrize(
    ("plugin", "compression"),
    [
        (StoragePlugin.SQLITE3, CompressionMode.NONE),
        (StoragePlugin.SQLITE3, CompressionMode.FILE),
        (StoragePlugin.MCAP, CompressionMode.MESSAGE),
        (StoragePlugin.MCAP, CompressionMode.STORAGE),
    ],
)
def test_what_sqlite_and_zstd_say_of_flipped_bytes_is_no_traceback_either(
    tmp_path: Path, plugin: StoragePlugin, compression: CompressionMode
) -> None:
    path = bag(tmp_path / "bag", foreign(), plugin, compression=compression)
    (storage,) = (file for file in path.iterdir() if file.name != "metadata.yaml")
    whole, refused = storage.read_bytes(), 0
    for at in {
        *range(0, len(whole), 4096),
        *range(0, len(whole), len(whole) // 60),
    }:  # the pages of SQLite, and between
        data = bytearray(whole)
        data[at : at + 8] = bytes(255 - byte for byte in data[at : at + 8])
        storage.write_bytes(data)
        try:
            list(sweeps(path))
        except FsmdeError as error:
            refused += str(path) in str(error)
    assert refused


@pytest.mark.parametrize("cut", ["metadata.yaml", "bag.mcap"])
def test_a_recording_that_was_cut_off_can_be_mended(tmp_path: Path, cut: str) -> None:
    """As by an empty battery: without the metadata that is written last, or without the end of the file."""
    write_bag(tmp_path / "bag", drive(2))
    file = tmp_path / "bag" / cut
    if cut == "metadata.yaml":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(SourceError, match=r"cannot be opened: .*`mcap recover` mends .*`ros2 bag reindex`"):
        list(sweeps(tmp_path / "bag"))
