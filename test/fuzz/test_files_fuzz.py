"""Files from outside: rig files, checkpoints, model cards, bags, tables of data sets."""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fsmde_ros.checkpoint import CARD_KEY, default_checkpoint, load_checkpoint
from fsmde_ros.errors import CheckpointError, FsmdeError, RigError, SourceError
from fsmde_ros.geometry import rigid
from fsmde_ros.images import encode_jpeg
from fsmde_ros.model_card import ModelCard
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.rig_file import read_lidars, read_rig, rig_from_mapping, rig_to_mapping, write_rig
from fsmde_ros.sources import bag, ddad
from fsmde_ros.sources.bag_writer import write_bag
from fsmde_ros.sources.dataset_files import path_inside, read_json
from fsmde_ros.sweep import EncodedImage, LidarScan, Sweep, View

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
EXTREMES = (None, True, -1, 0, 10**400, 1e308, float("nan"), float("inf"), "", "x" * 10**4, [], {}, [[]], [1e9] * 9)


def replaced(content: Any, random: np.random.Generator) -> Any:
    """A copy of JSON-like content in which one value, at whatever depth, is an extreme one or gone."""
    content = json.loads(json.dumps(content))
    node, path = content, []
    while isinstance(node, (dict, list)) and node and (not path or random.random() < 0.85):
        key = list(node)[int(random.integers(len(node)))] if isinstance(node, dict) else int(random.integers(len(node)))
        path.append((node, key))
        node = node[key]
    if path:
        owner, key = path[-1]
        value = EXTREMES[int(random.integers(len(EXTREMES)))]
        if random.random() < 0.2:
            del owner[key]
        else:
            owner[key] = value
    return content


@pytest.fixture(scope="module")
def rig():
    k = np.array([[30.0, 0, 16], [0, 30, 10], [0, 0, 1]])
    mounting = rigid([0.5, -0.5, 0.5, -0.5], [1, 0, 1.5])
    return Rig(tuple(Camera(name, (20, 32), k, mounting) for name in "ab"))


@pytest.fixture
def file(tmp_path):
    """Writes bytes to a file and gives its path."""

    def write(data: bytes, name: str = "file") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def test_rig_files(fuzzer, mutate, rig, tmp_path, file):
    write_rig(rig, tmp_path / "rig.yaml", {"lidar": np.eye(4)})
    text = (tmp_path / "rig.yaml").read_bytes()

    def read(data):
        path = file(data, "fuzzed.yaml")
        try:
            read_rig(path)
        finally:
            read_lidars(path)

    fuzzer.run("rig file, bytes", read, lambda random: mutate(text, random), share=0.1)
    content = rig_to_mapping(rig, {"lidar": np.eye(4)})
    fuzzer.run("rig file, fields", rig_from_mapping, lambda random: replaced(content, random))


def bomb(levels: int) -> bytes:
    """A YAML file of few bytes whose aliases stand for 9 to the power of ``levels`` values."""
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x]"]
    lines += [f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join([*lines, f"cameras: *a{levels - 1}"]).encode()


@pytest.mark.parametrize(
    "data",
    [
        bomb(30),
        b"[" * 100_000,
        b"a: &a [*a]",
        b"!!python/object/apply:os.system ['true']",
        b"cameras: !!binary x",
        b"\xff\xfe\x00",
        b"? [1]\n: 2",
        b"cameras: 2001-99-99",
        b"x" * 2_000_000,
        b"cameras: [" + b"1," * 20_000 + b"1]",
    ],
    ids=["bomb", "deep", "circle", "python", "tag", "encoding", "key", "date", "huge", "long"],
)
def test_hostile_yaml_is_refused(file, data):
    with pytest.raises(RigError) as caught:
        read_rig(file(data))
    assert len(str(caught.value)) < 5000


@settings(max_examples=30, deadline=None)
@given(JSON)
def test_any_content_of_a_rig_file_is_refused_or_a_rig(content):
    with contextlib.suppress(FsmdeError):
        assert len(rig_from_mapping(content)) > 0


@settings(max_examples=30, deadline=None)
@given(JSON)
def test_any_json_is_no_model_card(content):
    with pytest.raises(CheckpointError):
        ModelCard.from_json(json.dumps(content))


def test_model_cards(fuzzer, mutate):
    text = default_checkpoint().with_suffix(".json").read_bytes()
    content = json.loads(text)
    fuzzer.run(
        "model card, fields", lambda c: ModelCard.from_json(json.dumps(c)), lambda random: replaced(content, random)
    )
    fuzzer.run(
        "model card, bytes", lambda data: ModelCard.from_json(data.decode(errors="replace")), lambda r: mutate(text, r)
    )


def test_a_number_that_is_no_float_is_refused():
    card = json.loads(default_checkpoint().with_suffix(".json").read_text())
    card["student"]["d_max"] = 10**400
    with pytest.raises(CheckpointError, match="d_max: expected float"):
        ModelCard.from_json(json.dumps(card))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"name": ' + "9" * 10_000 + "}", '"' + "x" * 10**6 + '"'])
def test_hostile_cards_are_refused_in_few_words(text):
    with pytest.raises(CheckpointError) as caught:
        ModelCard.from_json(text)
    assert len(str(caught.value)) < 1000


def safetensors(header: bytes, data: bytes = b"", size: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if size is None else size) + header + data


def test_checkpoints(fuzzer, mutate, file):
    whole = default_checkpoint().read_bytes()
    length = struct.unpack_from("<Q", whole)[0]
    header = json.loads(whole[8 : 8 + length])

    def case(random):
        if random.random() < 0.5:
            return mutate(whole[: 8 + length], random) + whole[8 + length :]
        changed = replaced(header, random)
        return safetensors(json.dumps(changed).encode(), whole[8 + length :])

    fuzzer.run("checkpoint", lambda data: load_checkpoint(file(data, "c.safetensors")), case, share=0.002)
    card = json.loads(header["__metadata__"][CARD_KEY])

    def wild_card(random):
        changed = {**header, "__metadata__": {CARD_KEY: json.dumps(replaced(card, random))}}
        return safetensors(json.dumps(changed).encode(), whole[8 + length :])

    fuzzer.run(
        "checkpoint, its card", lambda data: load_checkpoint(file(data, "c.safetensors")), wild_card, share=0.002
    )


@pytest.mark.parametrize(
    "data",
    [
        safetensors(b"{}", size=2**63),
        safetensors(b'{"a":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4000000000000]}}'),
        safetensors(b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', b"1234"),
        b"\x80\x04\x95cos\nsystem\n",
        b"",
    ],
    ids=["length", "tensor", "negative", "pickle", "empty"],
)
def test_hostile_checkpoints_are_refused(file, data):
    with pytest.raises(CheckpointError):
        load_checkpoint(file(data, "c.safetensors"))


@pytest.fixture(scope="module")
def small_bag(tmp_path_factory, rig):
    """A bag of three sweeps of two cameras and a LiDAR."""
    path = tmp_path_factory.mktemp("fuzz") / "bag"
    image = encode_jpeg(np.random.default_rng(0).integers(0, 256, (20, 32, 3), dtype=np.uint8))
    scans = np.random.default_rng(0).uniform(-20, 20, (30, 3))
    sweeps = []
    for k in range(3):
        stamp = 10**18 + k * 10**8
        views = {name: View(EncodedImage(image.data), stamp, np.eye(4)) for name in rig.names}
        sweeps.append(Sweep(rig, stamp, views, LidarScan(scans, stamp, None, None, np.eye(4), np.eye(4))))
    write_bag(path, sweeps)
    return path


def test_bags(fuzzer, mutate, small_bag, tmp_path):
    storage = next(small_bag.glob("*.mcap"))
    data, metadata = storage.read_bytes(), (small_bag / "metadata.yaml").read_bytes()
    target = tmp_path / small_bag.name
    shutil.copytree(small_bag, target)

    def read(pair):
        (target / storage.name).write_bytes(pair[0])
        (target / "metadata.yaml").write_bytes(pair[1])
        list(bag.sweeps(target))

    fuzzer.run("bag, its storage", read, lambda random: (mutate(data, random), metadata), share=0.02)
    fuzzer.run("bag, its metadata", read, lambda random: (data, mutate(metadata, random)), share=0.02)


def test_bags_to_play(fuzzer, mutate, small_bag, tmp_path):
    """The player's look at a bag, which takes any topic and type, and its pace by the stamps of images."""
    pytest.importorskip("rclpy")
    from fsmde_ros.node.bag_topics import offered_qos
    from fsmde_ros.node.pacing import SweepGate
    from fsmde_ros.node.playlist import Playlist
    from fsmde_ros.replay_settings import heard_topics
    from fsmde_ros.sources.bag_file import open_bag

    storage = next(small_bag.glob("*.mcap"))
    data, metadata = storage.read_bytes(), (small_bag / "metadata.yaml").read_bytes()
    target = tmp_path / small_bag.name
    shutil.copytree(small_bag, target)

    def play(pair):
        (target / storage.name).write_bytes(pair[0])
        (target / "metadata.yaml").write_bytes(pair[1])
        heard_topics(target, ["left", "right"], ["lidar_top"])
        with open_bag(target) as opened:
            playlist = Playlist(opened, start_s=0.05)
            for connection in playlist.connections:
                offered_qos(connection)
            gate = SweepGate({topic: playlist.first_stamps(topic, 16) for topic in sorted(playlist.images)})
            for entry in playlist.entries():
                if entry.stamp_ns is not None and gate.may_publish(entry.topic, entry.stamp_ns):
                    gate.published(entry.topic, entry.stamp_ns)

    fuzzer.run("bag to play, its storage", play, lambda random: (mutate(data, random), metadata), share=0.02)
    fuzzer.run("bag to play, its metadata", play, lambda random: (data, mutate(metadata, random)), share=0.02)


def test_messages_of_a_bag(fuzzer, mutate, small_bag):
    """Bytes of messages, changed within a bag that is whole."""
    from fsmde_ros.sources.bag_file import open_bag

    with open_bag(small_bag) as opened:
        messages = list(opened.all_messages())

        def case(random):
            topic, _, data = messages[int(random.integers(len(messages)))]
            return topic, mutate(data, random)

        def use(pair):
            topic, data = pair
            opened.stamp_ns(topic, data)
            opened.decode(topic, data)

        fuzzer.run("messages of a bag", use, case)


def ddad_tables(root: Path) -> dict[str, Any]:
    pose = {"rotation": {"qw": 1.0, "qx": 0.0, "qy": 0.0, "qz": 0.0}, "translation": {"x": 0.0, "y": 0.0, "z": 0.0}}
    k = {"fx": 16.0, "fy": 17.0, "cx": 15.5, "cy": 9.5, "skew": 0.0}
    image = {"filename": "rgb/0.jpg", "height": 20, "width": 32, "pose": pose}
    cloud = {"filename": "cloud/0.npz", "point_format": ["X", "Y", "Z"], "pose": pose}
    (root / "s" / "rgb").mkdir(parents=True)
    (root / "s" / "cloud").mkdir()
    (root / "s" / "calibration").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 32, 3), dtype=np.uint8)
    (root / "s" / "rgb" / "0.jpg").write_bytes(encode_jpeg(pixels).data)
    np.savez(root / "s" / "cloud" / "0.npz", data=np.ones((4, 3)))
    at = {"timestamp": "2020-09-13T12:26:40.1Z"}
    return {
        "ddad.json": {"scene_splits": {"0": {"filenames": ["s/scene.json"]}}},
        "s/scene.json": {
            "data": [
                {"key": "i", "id": {"name": "CAMERA_01", **at}, "datum": {"image": image}},
                {"key": "l", "id": {"name": "LIDAR", **at}, "datum": {"point_cloud": cloud}},
            ],
            "samples": [{"calibration_key": "cal", "datum_keys": ["i", "l"]}],
        },
        "s/calibration/cal.json": {
            "names": ["CAMERA_01", "LIDAR"],
            "extrinsics": [pose, pose],
            "intrinsics": [k, dict.fromkeys(k, 0.0)],
        },
    }


def test_ddad_tables(fuzzer, mutate, tmp_path):
    root = tmp_path / "ddad"
    tables = ddad_tables(root)

    def case(random):
        name = list(tables)[int(random.integers(len(tables)))]
        if random.random() < 0.2:
            return name, mutate(json.dumps(tables[name]).encode(), random)
        return name, json.dumps(replaced(tables[name], random)).encode()

    def read(pair):
        for name, content in tables.items():
            (root / name).write_text(json.dumps(content))
        (root / pair[0]).write_bytes(pair[1])
        list(ddad.sweeps(root))

    assert len(list_sweeps(read, ("ddad.json", json.dumps(tables["ddad.json"]).encode()), root)) == 1
    fuzzer.run("DDAD tables", read, case, share=0.1)
    whole = (root / "s" / "cloud" / "0.npz").read_bytes()
    (root / "s" / "scene.json").write_text(json.dumps(tables["s/scene.json"]))

    def read_cloud(data):
        (root / "s" / "cloud" / "0.npz").write_bytes(data)
        list(ddad.sweeps(root))

    for name, content in tables.items():
        (root / name).write_text(json.dumps(content))
    fuzzer.run("DDAD clouds", read_cloud, lambda random: mutate(whole, random), share=0.1)


def list_sweeps(read, pair, root):
    read(pair)
    return list(ddad.sweeps(root))


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../x", "a/../../x", "a/..", "", ".", "a\0b", None, 3, ["a"], "x" * 10**6]
)
def test_no_name_leads_out_of_a_dataset(name, tmp_path):
    with pytest.raises(SourceError) as caught:
        path_inside(tmp_path, name, "table")
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize("text", ["[" * 10**6, "9" * 10**5, "{", "\xff"], ids=["deep", "digits", "open", "bytes"])
def test_hostile_json_is_refused(file, text):
    with pytest.raises(SourceError):
        read_json(file(text.encode("latin-1")))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=400))
def test_any_bytes_are_no_checkpoint_rig_or_bag(data, tmp_path):
    path = tmp_path / "any.mcap"
    path.write_bytes(data)
    for read in (load_checkpoint, read_rig, lambda p: list(bag.sweeps(p))):
        with pytest.raises(FsmdeError):
            read(path)
