"""What the node tells of cameras whose images are turned against their lens."""

from __future__ import annotations

from fsmde_ros.node.rectified_frames import RectifiedFrames


def test_each_camera_is_told_once() -> None:
    told: list[object] = []
    frames = RectifiedFrames(told.append)
    assert frames.look({}) == ""
    assert told == []
    what = "left: its rectified images are turned by 1.3 degrees against its lens (R of its CameraInfo)"
    assert frames.look({"left": 1.31}) == frames.look({"left": 1.32}) == what
    assert len(told) == 1
    assert str(told[0]).startswith(f"{what}; the frame of a camera must be that of its rectified images")
    assert frames.look({}) == ""
    assert frames.look({"left": 1.3, "right": 0.9}).startswith(f"{what}; right: ")
    assert len(told) == 2
