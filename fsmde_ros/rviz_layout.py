"""The layout of RViz for a rig: the cloud, every image above its depth, and where they stand.

``python -m fsmde_ros.rviz_layout surround_depth`` prints ``rviz/surround_depth.rviz`` and
``... replay_evaluation`` the other one; both are for the cameras of nuScenes. The launch files make
one for the cameras and the namespace they are given.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fsmde_ros.color import rows_of_rig
from fsmde_ros.rig import VEHICLE_FRAME, Rig
from fsmde_ros.rviz_docks import dock_state
from fsmde_ros.topics import DEPTH, POINTS, PREVIEW, InputForm, full_name

NUSCENES = ("cam_front_left", "cam_front", "cam_front_right", "cam_back_left", "cam_back", "cam_back_right")
FAR = 80.0  # metres, the white end of the depth images
WORST = 0.5  # share of the true depth, the red end of the errors
PLUGINS = "rviz_default_plugins"
WIDTH, HEIGHT = 1680, 1050  # pixels of the window

Mapping = dict[str, Any]


@dataclass(frozen=True)
class RvizView:
    """What to show.

    Attributes:
        cameras: names, in the order of their panels, from left to right; of a rig that of ``panel_order``.
        namespace: of the node; empty for none.
        vehicle_frame: fixed frame.
        image: topic of the images, after the name of the camera.
        lidars: topics of LiDARs, in the namespace unless they begin with a slash.
        errors: whether to show the errors that ``evaluate_replay`` publishes.
    """

    cameras: Sequence[str] = NUSCENES
    namespace: str = ""
    vehicle_frame: str = VEHICLE_FRAME
    image: str = InputForm().topic
    lidars: Sequence[str] = field(default=())
    errors: bool = False

    def topic(self, name: str) -> str:
        """Full name of a topic, in the namespace unless it begins with a slash."""
        return full_name(name, self.namespace)


SHIPPED = {
    "surround_depth": RvizView(),
    "replay_evaluation": RvizView(lidars=("lidar_top",), errors=True),
}


def panel_order(rig: Rig) -> list[str]:
    """Cameras from left to right, those that look forward before those that look backward, as in the preview."""
    return [name for row in rows_of_rig(rig) for name in row]


def layout(view: RvizView) -> Mapping:
    """Content of the ``.rviz`` file."""
    displays = [_grid(), _tf(), _cloud("Fused cloud", view.topic(POINTS), _RGB)]
    displays += [_cloud("LiDAR", view.topic(lidar), _FLAT, reliable=False) for lidar in view.lidars]
    if view.errors:
        displays.append(_cloud("Error / depth", view.topic("evaluate_replay/errors"), _ERRORS))
    for name in view.cameras:
        displays.append(_image(f"Image {name}", view.topic(f"{name}/{view.image}"), reliable=False))
    for name in view.cameras:
        displays.append(_image(f"Depth {name}", view.topic(f"{name}/{DEPTH}"), reliable=True))
    # Off: it shows the same once more, and the node makes it only while somebody listens.
    displays.append(_image("Preview", view.topic(PREVIEW), reliable=True) | {"Enabled": False, "Value": False})
    panels: list[tuple[str, ...]] = [(f"Image {name}", f"Depth {name}") for name in view.cameras]
    if len(panels) == 1:  # beside each other: one above the other they would fill the window, or be as narrow as high
        panels = [(panel,) for panel in panels[0]]
    return {
        "Panels": [
            {"Class": "rviz_common/Displays", "Name": "Displays", "Tree Height": 400},
            {"Class": "rviz_common/Time", "Name": "Time", "SyncMode": 0, "SyncSource": ""},
        ],
        "Visualization Manager": {
            "Class": "",
            "Displays": displays,
            "Enabled": True,
            "Global Options": {
                "Background Color": "24; 24; 28",
                "Fixed Frame": view.vehicle_frame,
                "Frame Rate": 30,
            },
            "Name": "root",
            "Tools": [{"Class": f"{PLUGINS}/{tool}"} for tool in ("Interact", "MoveCamera", "FocusCamera", "Measure")],
            "Transformation": {"Current": {"Class": f"{PLUGINS}/TF"}},
            "Value": True,
            "Views": {"Current": _orbit(view.vehicle_frame), "Saved": None},
        },
        "Window Geometry": {
            "Displays": {"collapsed": False},
            "Height": HEIGHT,
            "Hide Left Dock": False,
            "Hide Right Dock": False,
            "QMainWindow State": dock_state(panels, (WIDTH, HEIGHT)).hex(),
            "Width": WIDTH,
            "X": 60,
            "Y": 30,
        },
    }


def to_yaml(view: RvizView) -> str:
    """The text of the ``.rviz`` file."""
    return yaml.safe_dump(layout(view), sort_keys=False, width=1_000_000)


def write_layout(view: RvizView, path: Path) -> Path:
    """Write the ``.rviz`` file and return its path. Raises OSError where it cannot be written."""
    path.write_text(to_yaml(view))
    return path


def _grid() -> Mapping:
    return _display("Grid", "Grid (10 m)") | {
        "Alpha": 0.5,
        "Cell Size": 10,
        "Color": "160; 160; 164",
        "Plane": "XY",
        "Plane Cell Count": 20,
        "Reference Frame": "<Fixed Frame>",
    }


def _tf() -> Mapping:
    shown = {"Show Arrows": False, "Show Axes": True, "Show Names": False}
    return _display("TF", "TF") | {"Frame Timeout": 15, "Marker Scale": 1} | shown


_RGB: Mapping = {"Color Transformer": "RGB8"}
_FLAT: Mapping = {"Color Transformer": "FlatColor", "Color": "235; 235; 235"}
_ERRORS: Mapping = {
    "Color Transformer": "Intensity",
    "Channel Name": "relative",
    "Use rainbow": True,
    "Invert Rainbow": True,  # red is bad
    "Autocompute Intensity Bounds": False,
    "Min Intensity": 0,
    "Max Intensity": WORST,
}


def _cloud(name: str, topic: str, color: Mapping, reliable: bool = True) -> Mapping:
    return (
        _display("PointCloud2", name)
        | {"Alpha": 1, "Decay Time": 0, "Position Transformer": "XYZ", "Selectable": True}
        | {"Size (Pixels)": 2, "Size (m)": 0.08, "Style": "Points", "Use Fixed Frame": True}
        | color
        | {"Topic": _topic(topic, reliable) | {"Filter size": 10}}
    )


def _image(name: str, topic: str, reliable: bool) -> Mapping:
    # RViz paints 32FC1 black where it normalises a range that holds +Inf.
    levels = {"Max Value": FAR, "Min Value": 0, "Median window": 5, "Normalize Range": False}
    return _display("Image", name) | levels | {"Topic": _topic(topic, reliable)}


def _display(kind: str, name: str) -> Mapping:
    return {"Class": f"{PLUGINS}/{kind}", "Name": name, "Enabled": True, "Value": True}


def _topic(topic: str, reliable: bool) -> Mapping:
    return {
        "Depth": 1,
        "Durability Policy": "Volatile",
        "History Policy": "Keep Last",
        "Reliability Policy": "Reliable" if reliable else "Best Effort",
        "Value": topic,
    }


def _orbit(frame: str) -> Mapping:
    return {
        "Class": f"{PLUGINS}/Orbit",
        "Distance": 45,
        "Focal Point": {"X": 5, "Y": 0, "Z": 0},
        "Name": "Current View",
        "Near Clip Distance": 0.01,
        "Pitch": 0.75,
        "Target Frame": frame,
        "Value": "Orbit (rviz)",
        "Yaw": 3.14,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one of the shipped layouts. Exit status: 0 printed, 2 no such layout."""
    names = sys.argv[1:] if arguments is None else list(arguments)
    if len(names) != 1 or names[0] not in SHIPPED:
        print(f"usage: python -m fsmde_ros.rviz_layout {'|'.join(SHIPPED)}", file=sys.stderr)
        return 2
    print("# Generated by `python -m fsmde_ros.rviz_layout " + names[0] + "`.")
    print(to_yaml(SHIPPED[names[0]]), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
