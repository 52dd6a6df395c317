"""Videos and pictures of a recording that is written here, message by message."""

from __future__ import annotations

import importlib.util
import resource
import signal
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from fsmde_ros import bag_to_video
from fsmde_ros.bag_to_video import main, write_video
from fsmde_ros.cloud_layout import pack_cloud
from fsmde_ros.errors import SourceError
from fsmde_ros.images import encode_jpeg
from fsmde_ros.interruption import INTERRUPTED
from fsmde_ros.picture import Snapshot
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.rig_file import write_rig
from fsmde_ros.sources.bag_file import BagFile
from fsmde_ros.sources.bag_writer import write_bag
from fsmde_ros.sources.recorded_depth import IMAGE_LIMIT_NS, middle_of_fullest, snapshots
from fsmde_ros.sweep import Sweep, View

STORE = get_typestore(Stores.ROS2_JAZZY)
START, STEP = 1_600_000_000_000_000_000, 100_000_000
LATE = {"front": 0, "back": 20_000_000}
FORWARD = np.array([[0, 0, 1, 1.0], [-1, 0, 0, 0.0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
COUNT, WITHOUT_BACK = 5, 3


@pytest.fixture
def rig() -> Rig:
    k = np.array([[30, 0, 23.5], [0, 30, 15.5], [0, 0, 1]])
    return Rig((Camera("front", (32, 48), k, FORWARD), Camera("back", (32, 48), k, np.diag([-1, -1, 1, 1]) @ FORWARD)))


def header(stamp: int, frame: str) -> Any:
    time = STORE.types["builtin_interfaces/msg/Time"](sec=stamp // 10**9, nanosec=stamp % 10**9)
    return STORE.types["std_msgs/msg/Header"](stamp=time, frame_id=frame)


def depth_message(stamp: int, values: np.ndarray, encoding: str, order: str = "<") -> Any:
    height, width = values.shape
    data = values.astype(order + ("f4" if encoding == "32FC1" else "u2")).tobytes()
    kind = STORE.types["sensor_msgs/msg/Image"]
    step = len(data) // height
    return kind(header(stamp, "front"), height, width, encoding, order == ">", step, np.frombuffer(data, np.uint8))


def write_messages(path: Path, messages: list[tuple[str, int, Any]]) -> Path:
    """A bag of (topic, log time, message)."""
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        links: dict[str, Any] = {}
        for topic, logged, message in messages:
            if topic not in links:
                links[topic] = writer.add_connection(topic, message.__msgtype__, typestore=STORE)
            writer.write(links[topic], logged, STORE.serialize_cdr(message, message.__msgtype__))
    return path


def cloud_message(stamp: int) -> Any:
    rgb = np.array([0x00FF8000], np.uint32).view(np.float32)
    columns = {"x": np.float32([5]), "y": np.float32([1]), "z": np.float32([0.5]), "rgb": rgb}
    fields, step, data = pack_cloud({name: np.asarray(column) for name, column in columns.items()})
    field, kind = STORE.types["sensor_msgs/msg/PointField"], STORE.types["sensor_msgs/msg/PointCloud2"]
    described = [field(*one) for one in fields]
    return kind(header(stamp, "base_link"), 1, 1, described, False, step, step, np.frombuffer(data, np.uint8), True)


@pytest.fixture
def bags(rig: Rig, tmp_path: Path) -> tuple[Path, Path]:
    """Images in one bag; in the other depth of 1, 2, ... metres, the cloud, and one sweep without the back."""
    sweeps = []
    for i in range(COUNT):
        at = START + i * STEP
        views = {n: View(encode_jpeg(np.full((32, 48, 3), 40 * i, np.uint8)), at + LATE[n]) for n in rig.names}
        sweeps.append(Sweep(rig, at, views))
    write_bag(tmp_path / "images", sweeps)
    with Writer(tmp_path / "depth", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        topics = {n: f"/{n}/depth/image_rect" for n in rig.names}
        images = {n: writer.add_connection(t, "sensor_msgs/msg/Image", typestore=STORE) for n, t in topics.items()}
        points = writer.add_connection("/surround_depth/points", "sensor_msgs/msg/PointCloud2", typestore=STORE)
        for i in range(COUNT):
            at = START + i * STEP
            for name in rig.names:
                if (name, i) == ("back", WITHOUT_BACK):
                    continue
                values = np.full((8, 12), 1.0 + i) if name == "front" else np.full((8, 12), 1000 * (1 + i))
                message = depth_message(at + LATE[name], values, "32FC1" if name == "front" else "16UC1")
                data = STORE.serialize_cdr(message, "sensor_msgs/msg/Image")
                writer.write(images[name], at + LATE[name] + 50_000_000, data)
            cloud = STORE.serialize_cdr(cloud_message(at + 10_000_000), "sensor_msgs/msg/PointCloud2")
            writer.write(points, at + 75_000_000, cloud)
    return tmp_path / "depth", tmp_path / "images"


def test_every_sweep_has_its_depth_images_and_cloud(rig: Rig, bags: tuple[Path, Path]) -> None:
    found = list(snapshots(*bags, rig))
    assert len(found) == COUNT
    for i, snapshot in enumerate(found):
        names = {"front"} if i == WITHOUT_BACK else {"front", "back"}
        assert set(snapshot.depths) == set(snapshot.images) == names
        for name in names:
            np.testing.assert_allclose(snapshot.depths[name], 1.0 + i)
            assert abs(int(snapshot.images[name].mean()) - 40 * i) <= 2
        np.testing.assert_allclose(snapshot.points, [[5, 1, 0.5]])
        np.testing.assert_array_equal(snapshot.colors, [[255, 128, 0]])


def test_the_middle_one_of_the_fullest(rig: Rig, bags: tuple[Path, Path]) -> None:
    [snapshot] = snapshots(*bags, rig, middle_of_fullest)  # of 0, 1, 2 and 4
    np.testing.assert_allclose(snapshot.depths["front"], 3.0)


def test_a_bag_without_depth_is_refused(rig: Rig, bags: tuple[Path, Path]) -> None:
    with pytest.raises(SourceError, match=r"no depth of any camera of the rig.*/front/depth/image_rect"):
        list(snapshots(bags[1], bags[1], rig))


def test_an_image_that_is_missing_does_not_have_the_bags_read_to_their_end(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that is wanted later would be kept in memory on the way there."""
    count = 60
    reads: list[tuple[str, int]] = []
    picture = encode_jpeg(np.zeros((32, 48, 3), np.uint8))
    stamps = [START + i * STEP for i in range(count)]
    write_bag(
        tmp_path / "images",
        [Sweep(rig, s, {n: View(picture, s) for n in rig.names if (n, s) != ("back", START)}) for s in stamps],
    )
    depth = depth_message(0, np.ones((8, 12)), "32FC1")
    messages = [(f"/{n}/depth/image_rect", s, replace(depth, header=header(s, n))) for s in stamps for n in rig.names]
    original = BagFile.messages

    def counted(self: BagFile, topics: Collection[str]) -> Iterator[tuple[str, bytes]]:
        reads.append((self.path.name, 0))
        place = len(reads) - 1
        for message in original(self, topics):
            reads[place] = self.path.name, reads[place][1] + 1
            yield message

    monkeypatch.setattr(BagFile, "messages", counted)
    found = snapshots(write_messages(tmp_path / "depth", messages), tmp_path / "images", rig)
    first = next(found)
    assert (set(first.depths), set(first.images)) == ({"front", "back"}, {"front"})
    assert max(number for name, number in reads if name == "images") <= 2 * (IMAGE_LIMIT_NS // STEP + 2)
    rest = list(found)
    assert len(rest) == count - 1
    assert all(set(snapshot.images) == {"front", "back"} for snapshot in rest)
    whole = [number for name, number in reads if name == "images" and number > 1]  # else the first one, for its type
    assert whole == [2 * count - 1], "the bag is read once"


@pytest.mark.parametrize("wrong", ["dead", "of another clock"])
def test_one_camera_of_three_costs_the_others_no_image(rig: Rig, tmp_path: Path, wrong: str) -> None:
    """Dead after a second, or, from then on, an hour ahead, so that none of its images belongs to a depth."""
    side = replace(rig["front"], name="side", frame="side", camera_to_vehicle=np.diag([1, -1, -1, 1]) @ FORWARD)
    rig, hour = Rig((*rig.cameras, side)), 3_600_000_000_000
    stamps = [START + i * STEP for i in range(40)]
    picture = encode_jpeg(np.zeros((32, 48, 3), np.uint8))
    image = STORE.types["sensor_msgs/msg/CompressedImage"](header(0, ""), "jpeg", np.frombuffer(picture.data, np.uint8))
    depth = depth_message(0, np.ones((8, 12)), "32FC1")
    images, depths = [], []
    for stamp, name in ((s, n) for s in stamps for n in rig.names):
        own = stamp
        if name == "side" and stamp > START + 10 * STEP:
            if wrong == "dead":
                own = 0
            else:
                own = stamp + hour
        if own:
            images.append((f"/{name}/image_rect/compressed", stamp, replace(image, header=header(own, name))))
        depths.append((f"/{name}/depth/image_rect", stamp, replace(depth, header=header(stamp, name))))
    found = list(
        snapshots(write_messages(tmp_path / "depth", depths), write_messages(tmp_path / "images", images), rig)
    )
    assert [sorted(snapshot.images) for snapshot in found] == [
        ["back", "front", "side"] if i <= 10 else ["back", "front"] for i in range(40)
    ]


def test_a_cloud_between_two_sweeps_is_that_of_both(rig: Rig, bags: tuple[Path, Path], tmp_path: Path) -> None:
    depth = depth_message(0, np.ones((8, 12)), "32FC1")
    stamps = [START, START + STEP, START + 3 * STEP]
    messages = [("/front/depth/image_rect", s, replace(depth, header=header(s, "front"))) for s in stamps]
    messages.insert(1, ("/surround_depth/points", START + STEP // 2, cloud_message(START + STEP // 2)))
    found = list(snapshots(write_messages(tmp_path / "few", messages), bags[1], rig))
    assert [len(snapshot.points) for snapshot in found] == [1, 1, 0]


@pytest.mark.parametrize(
    ("name", "namespace", "camera"), [("front", "/robot", "/robot/front"), ("/front", "robot", "/front")]
)
def test_the_topics_of_a_node_in_a_namespace(
    tmp_path: Path, name: str, namespace: str, camera: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names that begin with a slash stand outside of it, for the node too."""
    rig = Rig((Camera(name, (8, 12), np.diag([10.0, 10.0, 1.0]), np.eye(4)),))
    write_rig(rig, tmp_path / "rig.yaml")
    pixels = np.frombuffer(encode_jpeg(np.full((8, 12, 3), 90, np.uint8)).data, np.uint8)
    jpeg = STORE.types["sensor_msgs/msg/CompressedImage"](header(START, name), "jpeg", pixels)
    depth = depth_message(START, np.full((8, 12), 5.0), "32FC1")
    named = [(f"{camera}/image_rect/compressed", START, jpeg), (f"{camera}/depth/image_rect", START, depth)]
    bag = write_messages(tmp_path / "bag", [*named, ("/robot/surround_depth/points", START, cloud_message(START))])
    [snapshot] = snapshots(bag, bag, rig, namespace=namespace)
    assert (list(snapshot.images), list(snapshot.depths), len(snapshot.points)) == ([name], [name], 1)
    drive = write_messages(tmp_path / "drive", [("/front/image_rect/compressed", START, jpeg)])  # played by remapping
    [snapshot] = snapshots(bag, drive, rig, namespace=namespace)
    assert list(snapshot.images) == [name]
    where = [str(bag), str(tmp_path / "out.png"), "--rig", str(tmp_path / "rig.yaml")]
    assert main([*where, "--namespace", namespace, "--points", "surround_depth/points"]) == 0
    if not name.startswith("/"):
        assert main(where) == 2
        assert "--namespace" in capsys.readouterr().err


def test_depth_of_the_other_byte_order(rig: Rig, bags: tuple[Path, Path], tmp_path: Path) -> None:
    metres = depth_message(START, np.full((8, 12), 5.0), "32FC1", ">")
    millimetres = depth_message(START, np.full((8, 12), 5000), "16UC1", ">")
    messages = [("/front/depth/image_rect", START, metres), ("/back/depth/image_rect", START, millimetres)]
    [snapshot] = snapshots(write_messages(tmp_path / "big", messages), bags[1], rig)
    for name in rig.names:
        np.testing.assert_allclose(snapshot.depths[name], 5.0)


def test_a_message_that_cannot_be_decoded_is_named(
    rig: Rig, bags: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = depth_message(START, np.ones((8, 12)), "32FC1")
    cut = replace(whole, data=whole.data[:-40])
    compressed = STORE.types["sensor_msgs/msg/CompressedImage"]
    jpeg = compressed(header(START, "front"), "jpeg", np.frombuffer(b"\xff\xd8 no more", np.uint8))
    write_rig(rig, tmp_path / "rig.yaml")
    for depth, wrong in ((cut, "/front/depth/image_rect"), (whole, "/front/image_rect/compressed")):
        messages = [("/front/depth/image_rect", START, depth), ("/front/image_rect/compressed", START, jpeg)]
        bag = write_messages(tmp_path / wrong.replace("/", "_"), messages)
        assert main([str(bag), str(tmp_path / "out.png"), "--rig", str(tmp_path / "rig.yaml")]) == 2
        said = capsys.readouterr().err
        assert f"bag_to_video: bag {bag}: {wrong} at {START} ns: the " in said
        assert "truncated" in said


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_video(
    rig: Rig, bags: tuple[Path, Path], tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rig(rig, tmp_path / "rig.yaml")
    out = tmp_path / "videos" / f"drive{suffix}"
    where = [str(bags[0]), str(out), "--rig", str(tmp_path / "rig.yaml"), "--images", str(bags[1])]
    assert main([*where, "--width", "480"]) == 0
    assert f"{COUNT} sweeps" in capsys.readouterr().out
    video = cv2.VideoCapture(str(out))
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(10, abs=0.1)
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1])
    assert len(frames) == COUNT
    assert frames[0].shape[1] == 480
    left_tile = [frame[20:60, 20:200].mean() for frame in frames]
    assert left_tile == sorted(left_tile), "the images get brighter"


def test_every_sweep_becomes_a_frame_whatever_is_missing_of_it(tmp_path: Path, rig: Rig) -> None:
    """OpenCV leaves out frames of another size than the first, and the height follows the first image that is there."""
    wide, high = np.zeros((20, 40, 3), np.uint8), np.zeros((30, 40, 3), np.uint8)
    none = np.zeros((0, 3), np.float32), np.zeros((0, 3), np.uint8)
    views = [{"front": wide, "back": high}, {"back": high}, {}]
    out = tmp_path / "drive.avi"
    assert (
        write_video([Snapshot(rig, v, {}, *none, START + i * STEP) for i, v in enumerate(views)], out, width=480) == 3
    )
    video = cv2.VideoCapture(str(out))
    assert [video.read()[0] for _ in range(4)] == [True, True, True, False]


def test_a_picture(rig: Rig, bags: tuple[Path, Path], tmp_path: Path) -> None:
    write_rig(rig, tmp_path / "rig.yaml")
    out = tmp_path / "drive.png"
    assert main([str(bags[0]), str(out), "--rig", str(tmp_path / "rig.yaml"), "--images", str(bags[1])]) == 0
    picture = cv2.imread(str(out))
    assert (picture == (0, 128, 255)).all(-1).any(), "the point of the cloud, in its colour (BGR)"


def test_a_recording_for_rerun(rig: Rig, bags: tuple[Path, Path], tmp_path: Path) -> None:
    """Read back with Rerun's own reader."""
    pytest.importorskip("rerun", reason="rerun-sdk is not installed (requirements/viewer.txt)")
    from rerun.dataframe import load_recording

    write_rig(rig, tmp_path / "rig.yaml")
    out = tmp_path / "drive.rrd"
    assert main([str(bags[0]), str(out), "--rig", str(tmp_path / "rig.yaml"), "--images", str(bags[1])]) == 0
    view = load_recording(out).view(index="stamp", contents="vehicle/**")
    table = view.select().read_all()
    buffers = [value[0] for value in table["/vehicle/front/depth:ImageBuffer"].to_pylist()]
    assert [float(np.frombuffer(bytes(b), np.float32).mean()) for b in buffers] == [1.0, 2.0, 3.0, 4.0, 5.0]
    behind = table["/vehicle/back/depth:ImageBuffer"].to_pylist()
    assert [i for i, value in enumerate(behind) if value is None] == [WITHOUT_BACK]
    for value in table["/vehicle/points:Position3D"].to_pylist():
        np.testing.assert_allclose(value, [[5, 1, 0.5]])
    place = table["/vehicle/front:Translation3D"].to_pylist()[0]
    np.testing.assert_allclose(place, [[1.0, 0.0, 1.5]])


def test_without_rerun_the_way_to_it_is_said(
    rig: Rig, bags: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if importlib.util.find_spec("rerun"):
        pytest.skip("rerun is installed")
    write_rig(rig, tmp_path / "rig.yaml")
    assert main([str(bags[0]), str(tmp_path / "drive.rrd"), "--rig", str(tmp_path / "rig.yaml")]) == 2
    assert "pip install -r requirements/viewer.txt" in capsys.readouterr().err


def test_what_cannot_be_done_is_said(
    rig: Rig, bags: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rig(rig, tmp_path / "rig.yaml")
    known = ["--rig", str(tmp_path / "rig.yaml")]
    assert main([str(bags[0]), "out.gif", *known]) == 2
    assert "the name must end in .mp4, .avi, .png, .rrd" in capsys.readouterr().err
    assert main([str(tmp_path / "none"), str(tmp_path / "out.mp4"), *known]) == 2
    assert "cannot be opened" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert main([str(bags[0]), str(tmp_path / "file" / "out.mp4"), *known]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_misspelt_topic_of_the_cloud_is_refused(
    rig: Rig, bags: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rig(rig, tmp_path / "rig.yaml")
    known = [str(bags[0]), str(tmp_path / "out.png"), "--rig", str(tmp_path / "rig.yaml"), "--images", str(bags[1])]
    for wrong in ("/surround_depth/pointz", "/front/depth/image_rect"):
        assert main([*known, "--points", wrong]) == 2
        said = capsys.readouterr().err
        assert f"no PointCloud2 on {wrong}" in said
        assert "it has /surround_depth/points" in said
    assert not (tmp_path / "out.png").exists()
    assert main([*known, "--points", "/surround_depth/points"]) == 0


def test_without_a_recorded_cloud_the_depth_alone_is_shown(rig: Rig, bags: tuple[Path, Path], tmp_path: Path) -> None:
    message = depth_message(START, np.ones((8, 12)), "32FC1")
    bag = write_messages(tmp_path / "few", [("/front/depth/image_rect", START, message)])
    [snapshot] = snapshots(bag, bags[1], rig)
    assert (set(snapshot.depths), len(snapshot.points)) == ({"front"}, 0)


def test_images_that_are_nowhere_are_missed_aloud(
    rig: Rig, bags: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The depth may stand alone, but who names a bag of images wants them."""
    write_rig(rig, tmp_path / "rig.yaml")
    known = [str(bags[0]), str(tmp_path / "out.png"), "--rig", str(tmp_path / "rig.yaml")]
    assert main(known) == 0
    assert f"no images of any camera of the rig in {bags[0]}" in capsys.readouterr().err
    (tmp_path / "out.png").unlink()
    assert main([*known, "--images", str(bags[0])]) == 2
    assert "no images of any camera of the rig, expected topics such as /front/image_rect" in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("option", ["--fps=0", "--fps=-5", "--fps=nan", "--fps=inf", "--width=0", "--width=-64"])
def test_a_speed_or_size_that_no_video_has_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bag", "out.mp4", "--rig", "rig.yaml", option])
    assert f"argument {option.partition('=')[0]}: must be" in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_video_that_is_not_whole_on_the_disk_is_told(
    rig: Rig, bags: tuple[Path, Path], tmp_path: Path, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """OpenCV says nothing where the disk is full; files of at most 100 kB are the same to it."""
    write_rig(rig, tmp_path / "rig.yaml")
    out = tmp_path / f"drive{suffix}"
    where = [str(bags[0]), str(out), "--rig", str(tmp_path / "rig.yaml"), "--images", str(bags[1])]
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old[1]))
    try:
        status = main(where)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    assert status == 2
    assert f"{out}: cannot be written: of {COUNT} frames" in capfd.readouterr().err
    assert not out.exists(), "half a video is worse than none"


def test_a_folder_that_takes_no_files_is_not_blamed_on_the_codec(
    rig: Rig, bags: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rig(rig, tmp_path / "rig.yaml")
    (tmp_path / "drive.mp4").mkdir()
    assert main([str(bags[0]), str(tmp_path / "drive.mp4"), "--rig", str(tmp_path / "rig.yaml")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_video_that_is_interrupted_ends_there_and_can_be_seen(
    rig: Rig,
    bags: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_rig(rig, tmp_path / "rig.yaml")
    drawn: list[Snapshot] = []

    def compose(snapshot: Snapshot, lines: list[str]) -> np.ndarray:
        if len(drawn) == 3:
            signal.raise_signal(signal.SIGTERM)
        drawn.append(snapshot)
        return np.zeros((64, 96, 3), np.uint8)

    monkeypatch.setattr(bag_to_video, "compose", compose)
    out = tmp_path / "drive.mp4"
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        status = main([str(bags[0]), str(out), "--rig", str(tmp_path / "rig.yaml"), "--images", str(bags[1])])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert status == INTERRUPTED
    assert f"bag_to_video: interrupted; {out} ends there" in capsys.readouterr().err
    video = cv2.VideoCapture(str(out))
    assert [video.read()[0] for _ in range(4)] == [True, True, True, False]
