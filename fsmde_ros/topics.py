"""Names of topics, without ROS: what the node takes and publishes.

Those of a camera stand behind its name, as in ``cam_front/depth/image_rect``; all are relative to the namespace.
"""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

ODOM = "/odom"  # of the vehicle, so outside of the namespace
RECTIFIED, UNRECTIFIED = "image_rect", "image_raw"
DEPTH, DEPTH_INFO, STDDEV, COLOR = "depth/image_rect", "depth/camera_info", "depth/stddev", "depth/color"
# Compressed images have a topic below the one that is asked for: RViz and others would not find them elsewhere.
POINTS, PREVIEW, SWEEP = "surround_depth/points", "surround_depth/preview/compressed", "surround_depth/sweep"


def full_name(topic: str, namespace: str = "") -> str:
    """The topic as the graph and a bag have it, as ROS resolves names: one that begins with a slash is whole."""
    return topic if topic.startswith("/") else "/".join(["", *filter(None, [namespace.strip("/"), topic])])


class InputForm(NamedTuple):
    """How the images of a camera come; without arguments, what the node takes unless its parameters say otherwise."""

    is_rectified: bool = True
    is_compressed: bool = True

    @property
    def topic(self) -> str:
        """After the name of the camera."""
        return (RECTIFIED if self.is_rectified else UNRECTIFIED) + ("/compressed" if self.is_compressed else "")

    @property
    def parameters(self) -> dict[str, str]:
        """Of the node."""
        transport = "compressed" if self.is_compressed else "raw"
        return {"input.rectified": str(self.is_rectified).lower(), "input.transport": transport}

    def changes(self, now: InputForm | None = None) -> tuple[str, ...]:
        """Parameters to change, as ``name:=value``, in a node that takes ``now`` (default: an unchanged one)."""
        before = (now or InputForm()).parameters
        return tuple(f"{name}:={value}" for name, value in self.parameters.items() if before[name] != value)


INPUT_FORMS = tuple(InputForm(*values) for values in product((True, False), repeat=2))
