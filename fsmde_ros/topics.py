"""Names of topics, without ROS: what the node takes and publishes.

Those of a camera stand behind its name, as in ``cam_front/depth/image_rect``; all are relative to the namespace.
"""

from __future__ import annotations

RECTIFIED, UNRECTIFIED = "image_rect", "image_raw"
DEPTH, DEPTH_INFO, STDDEV = "depth/image_rect", "depth/camera_info", "depth/stddev"
POINTS, PREVIEW, SWEEP = "surround_depth/points", "surround_depth/preview", "surround_depth/sweep"


def image_topic(is_rectified: bool, is_compressed: bool) -> str:
    """Topic of the images of a camera, after its name."""
    return (RECTIFIED if is_rectified else UNRECTIFIED) + ("/compressed" if is_compressed else "")
