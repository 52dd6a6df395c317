"""Play a bag through the node without losing an image, compare with the LiDAR, write a report, end.

ros2 launch fsmde_ros replay_evaluation.launch.py bag:=/path/to/bag rig_file:=/path/to/rig.yaml
ros2 launch fsmde_ros replay_evaluation.launch.py bag:=... rig_file:=... report:=report.json rviz:=true
ros2 launch fsmde_ros replay_evaluation.launch.py --show-args
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from fsmde_ros.launch_settings import (
    cameras_of,
    full_remappings,
    image_topic_of,
    is_on,
    misspelt,
    odometry_of,
    odometry_parameter,
    remappings,
)
from fsmde_ros.replay_settings import heard_topics, loopback, lossless, patience
from fsmde_ros.rig_file import read_lidars, read_rig
from fsmde_ros.rviz_layout import RvizView, panel_order, write_layout
from fsmde_ros.topics import ODOM

SHARE = Path(get_package_share_directory("fsmde_ros"))

ARGUMENTS = [
    DeclareLaunchArgument("bag", description="Bag with the images, CameraInfo and a LiDAR (needed)."),
    DeclareLaunchArgument("rig_file", description="Rig file (YAML) of that bag, by rig_from_bag (needed)."),
    DeclareLaunchArgument(
        "params_file",
        default_value=str(SHARE / "config" / "surround_depth.yaml"),
        description="Parameters of the node.",
    ),
    DeclareLaunchArgument(
        "checkpoint",
        default_value="",
        description="Checkpoint (.safetensors), or one of the package, such as nano; empty: small.",
    ),
    DeclareLaunchArgument(
        "device", default_value="", description="auto, cpu, cuda or cuda:N; empty: what the parameters say."
    ),
    DeclareLaunchArgument(
        "backend", default_value="", description="Inference backend, auto: the best; empty: what the parameters say."
    ),
    DeclareLaunchArgument(
        "cameras", default_value="", description="Names of the cameras, comma separated; empty: those of the rig file."
    ),
    DeclareLaunchArgument(
        "transport", default_value="", description="compressed or raw images; empty: what the parameters say."
    ),
    DeclareLaunchArgument(
        "rectified",
        default_value="",
        description="true: image_rect; false: image_raw, rectified by the node; empty: what the parameters say.",
    ),
    DeclareLaunchArgument(
        "remap",
        default_value="",
        description="Other names: /front/image_rect/compressed:=/cam0/image/compressed,/front/camera_info:=/cam0/info.",
    ),
    DeclareLaunchArgument("report", default_value="report.json", description="Report to write (JSON)."),
    DeclareLaunchArgument(
        "lidar_topic", default_value="", description="The LiDAR's; empty: the frames of the rig file name its topics."
    ),
    DeclareLaunchArgument(
        "odom_topic",
        default_value="",
        description="Odometry of the vehicle, for the node and the comparison; empty: what the parameters say.",
    ),
    DeclareLaunchArgument("max_depth", default_value="80.0", description="Ground truth that counts, m."),
    DeclareLaunchArgument(
        "pace", default_value="node", description="node: as fast as the node keeps up; clock: real time."
    ),
    DeclareLaunchArgument("rviz", default_value="false", description="Open RViz with depth, LiDAR and errors."),
    DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal."),
]


def value(context: LaunchContext, name: str) -> str:
    """What the user gave for a launch argument, or its default."""
    return LaunchConfiguration(name).perform(context)


def is_true(context: LaunchContext, name: str) -> bool:
    """A launch argument as a switch."""
    return is_on(name, value(context, name))


def params_file(context: LaunchContext) -> Path:
    """The file of the node's parameters."""
    return Path(value(context, "params_file"))


def node_parameters(context: LaunchContext, cameras: list[str], renamed: dict[str, str]) -> dict[str, Any]:
    """Parameters of the node that were given as launch arguments, its cameras, and the QoS that loses nothing."""
    names = ("rig_file", "checkpoint", "device", "backend")
    given: dict[str, Any] = {name: value(context, name) for name in names if value(context, name)}
    if value(context, "transport"):
        given["input.transport"] = value(context, "transport")
    if value(context, "rectified"):
        given["input.rectified"] = is_true(context, "rectified")
    given |= odometry_parameter(params_file(context), value(context, "odom_topic")) | {"cameras": cameras}
    return given | lossless(cameras, renamed=renamed) | patience(value(context, "pace"))


def nodes(context: LaunchContext) -> list[Any]:
    """Node, evaluator and player; when the player has ended, everything ends."""
    rig = read_rig(value(context, "rig_file"))
    lidars = tuple(read_lidars(value(context, "rig_file")))
    log_level = ["--log-level", LaunchConfiguration("log_level")]
    cameras = cameras_of(params_file(context), value(context, "cameras")) or list(rig.names)
    odometry = odometry_of(params_file(context), value(context, "odom_topic")) or ODOM
    pairs = remappings(value(context, "remap"))
    renamed = full_remappings(pairs)
    scoring = ["--rig", value(context, "rig_file"), "--out", value(context, "report")]
    scoring += ["--max-depth", value(context, "max_depth"), "--bag", value(context, "bag")]
    scoring += ["--cameras", *cameras, "--odom-topic", odometry]
    named = value(context, "lidar_topic").strip("/")
    if named:
        scoring += ["--lidar-topic", f"/{named}"]
    heard = heard_topics(Path(value(context, "bag")), cameras, (named,) if named else lidars, odometry, renamed)
    player = Node(
        package="fsmde_ros",
        executable="replay",
        output="screen",
        arguments=[
            value(context, "bag"),
            *("--pace", value(context, "pace"), "--wait-for-subscribers", "300", "--wait-for", *heard),
        ],
    )
    known = [argument.name for argument in ARGUMENTS]
    actions: list[Any] = [
        *(LogInfo(msg=hint) for hint in misspelt(context.launch_configurations, known)),
        *(SetEnvironmentVariable(*pair) for pair in loopback(SHARE / "config" / "fastdds.xml").items()),
        Node(
            package="fsmde_ros",
            executable="surround_depth",
            name="surround_depth",
            output="screen",
            parameters=[LaunchConfiguration("params_file"), node_parameters(context, cameras, renamed)],
            remappings=pairs,
            ros_arguments=log_level,
            sigterm_timeout="20",  # it lets the sweep in hand out and frees the model
        ),
        Node(
            package="fsmde_ros",
            executable="evaluate_replay",
            name="evaluate_replay",
            output="screen",
            arguments=scoring,
            remappings=pairs,
            ros_arguments=log_level,
            sigterm_timeout="60",  # it scores what is still queued before it writes the report
        ),
        RegisterEventHandler(OnProcessExit(target_action=player, on_exit=[Shutdown(reason="the bag has ended")])),
        player,
    ]
    if is_true(context, "rviz"):
        images = image_topic_of(params_file(context), value(context, "transport"), value(context, "rectified"))
        shown = panel_order(rig.subset(cameras))
        view = RvizView(shown, vehicle_frame=rig.vehicle_frame, image=images, lidars=lidars, errors=True)
        layout = write_layout(view, Path(tempfile.mkdtemp(prefix="fsmde_ros_")) / "replay_evaluation.rviz")
        actions.append(Node(package="rviz2", executable="rviz2", arguments=["-d", str(layout)], remappings=pairs))
    return actions


def generate_launch_description() -> LaunchDescription:
    """All arguments, then the processes they ask for."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=nodes)])
