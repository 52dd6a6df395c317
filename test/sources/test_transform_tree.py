from __future__ import annotations

import numpy as np

from fsmde_ros.geometry import rigid, transform
from fsmde_ros.sources.transform_tree import TransformTree

QUARTER_LEFT = [np.sqrt(0.5), 0, 0, np.sqrt(0.5)]  # about z: x to y


def shift(x: float) -> np.ndarray:
    return rigid([1, 0, 0, 0], [x, 0, 0])


def tree() -> TransformTree:
    result = TransformTree()
    result.add_fixed("/base_link", "/mast", rigid(QUARTER_LEFT, [1, 0, 0]))
    result.add_fixed("mast", "camera", shift(2))
    result.add_fixed("base_link", "lidar", shift(-1))
    result.add_moving("map", "odom", shift(100), 0)
    result.add_moving("map", "odom", shift(100), 10)
    result.add_moving("odom", "base_link", shift(0), 0)
    result.add_moving("odom", "base_link", shift(10), 10)
    return result


def test_chains_of_fixed_frames() -> None:
    camera_to_base = tree().lookup("camera", "base_link")
    assert camera_to_base is not None
    np.testing.assert_allclose(transform(camera_to_base, [0, 0, 0]), [1, 2, 0])
    np.testing.assert_allclose(transform(camera_to_base, [1, 0, 0]), [1, 3, 0], atol=1e-12)
    camera_to_lidar = tree().lookup("camera", "lidar")
    assert camera_to_lidar is not None
    np.testing.assert_allclose(transform(camera_to_lidar, [0, 0, 0]), [2, 2, 0])


def test_moving_frames_are_interpolated_along_the_chain() -> None:
    pose = tree().lookup("base_link", "map", 4)
    assert pose is not None
    np.testing.assert_allclose(pose, shift(104))
    back = tree().lookup("map", "base_link", 4)
    assert back is not None
    np.testing.assert_allclose(back, shift(-104))


def test_the_root_is_known_for_most_of_the_drive() -> None:
    known = tree()
    known.add_moving("odom", "base_link", shift(0), 10)  # stands still: only the map tells of a drive
    assert known.root("/camera", range(11)) == "map"
    assert known.root("camera", ()) == "base_link"  # fixed to it
    known.add_moving("earth", "map", shift(0), 5)  # once: known at this stamp alone
    assert known.root("camera", range(11)) == "map"
    assert known.root("camera", [5]) == "earth"
    assert known.root("camera", [10**12]) == "base_link"
    assert known.root("nowhere", range(11)) == "nowhere"


def test_the_root_is_below_a_link_that_only_corrects() -> None:
    """But no frame that the vehicle carries: on springs it moves in that, too, up to a few decimetres."""
    known = tree()
    assert known.root("camera", range(11)) == "odom"
    for stamp in (0, 10):
        known.add_moving("odom", "base_footprint", shift(stamp), stamp)
        known.add_moving("base_footprint", "base_link", shift(0.03 * stamp), stamp)
    assert known.root("camera", range(11)) == "odom"


def test_a_turn_on_the_spot_is_motion() -> None:
    known = TransformTree()
    for stamp, turn in ((0, [1, 0, 0, 0]), (10, QUARTER_LEFT)):
        known.add_moving("map", "odom", shift(stamp), stamp)
        known.add_moving("odom", "base_link", rigid(turn, [0, 0, 0]), stamp)
    assert known.root("base_link", range(11)) == "odom"


def test_the_first_reason_why_a_frame_is_missed_is_remembered() -> None:
    known = tree()
    known.refuse("/mast", "it shook")
    known.refuse("mast", "it fell")
    assert known.refusal("camera", "base_link") == known.refusal("map", "camera") == "it shook"
    assert known.refusal("lidar", "base_link") == ""


def test_unknown_is_none() -> None:
    assert tree().lookup("camera", "nowhere") is None
    assert tree().lookup("camera", "map") is None  # moving, without a stamp
    assert tree().lookup("base_link", "map", 10**12) is None


def test_a_circle_ends() -> None:
    circle = TransformTree()
    circle.add_fixed("a", "b", shift(1))
    circle.add_fixed("b", "a", shift(1))
    assert circle.lookup("a", "nowhere") is None
    assert circle.joined_frames(moving=False) == ("a", "b")
    assert circle.joined_frames(moving=True) == ()
    assert circle.root("b", (1, 2)) == "a"


def test_the_last_word_counts() -> None:
    result = TransformTree()
    result.add_moving("map", "cam", shift(1), 0)
    result.add_fixed("base", "cam", shift(2))
    np.testing.assert_allclose(result.lookup("cam", "base"), shift(2))
    result.add_moving("map", "cam", shift(3), 5)
    assert result.lookup("cam", "base", 5) is None
    np.testing.assert_allclose(result.lookup("cam", "map", 5), shift(3))
