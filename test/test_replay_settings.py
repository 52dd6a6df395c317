from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fsmde_ros.errors import SourceError
from fsmde_ros.images import encode_jpeg
from fsmde_ros.replay_settings import environment, heard_topics, lossless, patience
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.sources.bag_writer import write_bag
from fsmde_ros.sweep import Sweep, View


def test_overrides_name_every_topic_in_full() -> None:
    assert lossless(["left"], "/lorry/") == {
        "qos_overrides./lorry/left/image_rect.subscription.reliability": "reliable",
        "qos_overrides./lorry/left/image_rect.subscription.depth": 100,
        "qos_overrides./lorry/left/image_rect/compressed.subscription.reliability": "reliable",
        "qos_overrides./lorry/left/image_rect/compressed.subscription.depth": 100,
        "qos_overrides./lorry/left/depth/image_rect.publisher.depth": 100,
        "qos_overrides./lorry/left/depth/camera_info.publisher.depth": 100,
        "qos_overrides./lorry/surround_depth/points.publisher.depth": 100,
    }
    assert "qos_overrides./left/depth/image_rect.publisher.depth" in lossless(["left"])


def test_a_node_that_is_waited_for_may_wait_for_its_cameras() -> None:
    assert patience("node") == {"sync.deadline_s": 2.0}
    assert patience("clock") == {}


def test_each_process_has_a_domain_of_its_own_on_this_machine_only() -> None:
    given = environment()
    assert 1 <= int(given["ROS_DOMAIN_ID"]) <= 100
    assert given["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert Path(given["FASTRTPS_DEFAULT_PROFILES_FILE"]).is_file()
    assert environment(7)["ROS_DOMAIN_ID"] == "7"


def test_only_what_the_bag_has_is_waited_for(tmp_path: Path) -> None:
    camera = Camera("left", (8, 8), np.array([[8, 0, 3.5], [0, 8, 3.5], [0, 0, 1]]), np.eye(4))
    view = View(encode_jpeg(np.zeros((8, 8, 3), np.uint8)), 1_000_000_000)
    write_bag(tmp_path / "bag", [Sweep(Rig((camera,)), 1_000_000_000, {"left": view})])
    heard = heard_topics(tmp_path / "bag", ["left", "right"], ["lidar_top"])
    assert heard == ["/left/image_rect/compressed", "/left/camera_info"]
    with pytest.raises(SourceError, match="cannot be opened"):
        heard_topics(tmp_path / "none", ["left"], [])
