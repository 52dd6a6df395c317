"""Start the surround depth node, and by request RViz, a bag and the evaluator beside it.

ros2 launch fsmde_ros surround_depth.launch.py rig_file:=/path/to/rig.yaml
ros2 launch fsmde_ros surround_depth.launch.py bag:=/path/to/bag rig_file:=... rviz:=true
ros2 launch fsmde_ros surround_depth.launch.py rig_file:=... viewer:=rerun
ros2 launch fsmde_ros surround_depth.launch.py --show-args
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, GroupAction, LogInfo, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, PushRosNamespace

from fsmde_ros.errors import ConfigError
from fsmde_ros.launch_settings import (
    cameras_of,
    ground_z_of,
    image_topic_of,
    is_on,
    misspelt,
    names_in,
    odometry_of,
    odometry_parameter,
    remappings,
    rig_file_of,
    vehicle_frame_of,
)
from fsmde_ros.rig import VEHICLE_FRAME
from fsmde_ros.rig_file import read_rig
from fsmde_ros.rviz_layout import NUSCENES, RvizView, panel_order, write_layout

SHARE = Path(get_package_share_directory("fsmde_ros"))

ARGUMENTS = [
    DeclareLaunchArgument(
        "params_file",
        default_value=str(SHARE / "config" / "surround_depth.yaml"),
        description="Parameters of the node.",
    ),
    DeclareLaunchArgument(
        "rig_file", default_value="", description="Rig file (YAML) with the extrinsics; empty: they come from TF."
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
    DeclareLaunchArgument(
        "autostart",
        default_value="",
        description="false: a lifecycle manager starts the node (nav2's: with bond_timeout: 0.0, it makes no bond); "
        "empty: what the parameters say.",
    ),
    DeclareLaunchArgument(
        "namespace",
        default_value="",
        description="Namespace of the node, its topics and cameras; not of /odom, for which see motion.odometry.",
    ),
    DeclareLaunchArgument("use_sim_time", default_value="false", description="Take the time from /clock."),
    DeclareLaunchArgument(
        "bag", default_value="", description="Bag to play, with /clock, under the topics it was recorded with."
    ),
    DeclareLaunchArgument("rviz", default_value="false", description="Open RViz with a layout for the cameras."),
    DeclareLaunchArgument(
        "viewer",
        default_value="none",
        description="none, rerun (its window), or a recording for it to write (NAME.rrd); requirements/viewer.txt.",
    ),
    DeclareLaunchArgument("evaluate", default_value="false", description="Compare the depth with the LiDAR."),
    DeclareLaunchArgument(
        "report", default_value="", description="Report of the comparison to write (JSON); empty: only its table."
    ),
    DeclareLaunchArgument(
        "lidar_topic", default_value="", description="The LiDAR's; empty: the frames of the rig file name its topics."
    ),
    DeclareLaunchArgument(
        "odom_topic",
        default_value="",
        description="Odometry of the vehicle, for the node and the comparison; empty: what the parameters say.",
    ),
    DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal."),
    DeclareLaunchArgument("respawn", default_value="false", description="Start the node again when it dies."),
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


def rig_file(context: LaunchContext) -> str:
    """The rig file that the node reads; empty where its extrinsics come from TF."""
    return rig_file_of(params_file(context), value(context, "rig_file"))


def camera_names(context: LaunchContext) -> list[str]:
    """Cameras that were named, by argument or parameter; empty: those of the rig file."""
    return cameras_of(params_file(context), value(context, "cameras"))


def overrides(context: LaunchContext) -> dict[str, Any]:
    """Parameters of the node that were given as launch arguments; the others keep their file's values."""
    names = ("rig_file", "checkpoint", "device", "backend")
    given: dict[str, Any] = {name: value(context, name) for name in names if value(context, name)}
    if names_in(value(context, "cameras")):
        given["cameras"] = names_in(value(context, "cameras"))
    if value(context, "transport"):
        given["input.transport"] = value(context, "transport")
    if value(context, "rectified"):
        given["input.rectified"] = is_true(context, "rectified")
    if value(context, "autostart"):
        given["autostart"] = is_true(context, "autostart")
    given |= odometry_parameter(params_file(context), value(context, "odom_topic"))
    # A bag brings its own time: without /clock its stamps would all look stale.
    if is_true(context, "use_sim_time") or value(context, "bag"):
        given["use_sim_time"] = True
    return given


def images(context: LaunchContext) -> str:
    """Topic of the images, after the name of a camera."""
    return image_topic_of(params_file(context), value(context, "transport"), value(context, "rectified"))


def rviz_layout(context: LaunchContext) -> Path:
    """The shipped layout, or one for the cameras and the namespace that were given."""
    path = rig_file(context)
    rig = read_rig(path) if path else None
    cameras = camera_names(context) or (panel_order(rig) if rig else list(NUSCENES))
    frame = rig.vehicle_frame if rig else vehicle_frame_of(params_file(context)) or VEHICLE_FRAME
    view = RvizView(cameras, value(context, "namespace"), frame, images(context))
    return write_layout(view, Path(tempfile.mkdtemp(prefix="fsmde_ros_")) / "surround_depth.rviz")


def option(name: str, given: str) -> list[str]:
    """An option of a program, and its value; nothing where that is empty."""
    return [name, given] if given else []


def viewer_arguments(context: LaunchContext) -> list[str]:
    """Where ``rerun_view`` shows: in its window, or in the recording that was named."""
    shown = value(context, "viewer")
    if shown == "rerun":
        return []
    if shown.endswith(".rrd"):
        return ["--save", shown]
    raise ConfigError(f"viewer:={shown}: expected none, rerun, or the name of a recording that ends in .rrd")


def nodes(context: LaunchContext) -> list[GroupAction]:
    """The processes that the arguments ask for."""
    parameters = overrides(context)
    log_level = ["--log-level", LaunchConfiguration("log_level")]
    sim_time = {"use_sim_time": parameters.get("use_sim_time", False)}
    path, cameras = rig_file(context), camera_names(context)
    rig = {"rig_file": path} if path else {}
    named = ["--cameras", *cameras] if cameras else []
    # A rig file has both; where there is none, TF does not say what the node's parameters do.
    frame = [] if path else option("--vehicle-frame", vehicle_frame_of(params_file(context)))
    road = [] if path else option("--ground-z", ground_z_of(params_file(context)))
    renamed = remappings(value(context, "remap"))
    scoring = [
        *option("--lidar-topic", value(context, "lidar_topic")),
        *option("--odom-topic", odometry_of(params_file(context), value(context, "odom_topic"))),
        *option("--out", value(context, "report")),
    ]
    known = [argument.name for argument in ARGUMENTS]
    actions: list[Any] = [
        *(LogInfo(msg=hint) for hint in misspelt(context.launch_configurations, known)),
        PushRosNamespace(LaunchConfiguration("namespace")),
        Node(
            package="fsmde_ros",
            executable="surround_depth",
            name="surround_depth",
            output="screen",
            parameters=[LaunchConfiguration("params_file"), parameters],
            ros_arguments=log_level,
            remappings=renamed,
            respawn=is_true(context, "respawn"),
            respawn_delay=2.0,
            sigterm_timeout="20",  # it lets the sweep in hand out and frees the model
        ),
        Node(
            package="fsmde_ros",
            executable="evaluate_replay",
            name="evaluate_replay",
            output="screen",
            arguments=[*named, *frame, *road, *scoring],
            parameters=[sim_time | rig],
            remappings=renamed,
            ros_arguments=log_level,
            condition=IfCondition(LaunchConfiguration("evaluate")),
            sigterm_timeout="30",  # it scores what is still queued before it prints its table
        ),
    ]
    if is_true(context, "rviz"):
        layout = str(rviz_layout(context))
        rviz = Node(
            package="rviz2",
            executable="rviz2",
            arguments=["-d", layout],
            parameters=[sim_time],
            remappings=renamed,
        )
        actions.append(rviz)
    if value(context, "viewer") != "none":
        actions.append(
            Node(
                package="fsmde_ros",
                executable="rerun_view",
                name="rerun_view",
                output="screen",
                arguments=[*named, *frame, "--image", images(context), *viewer_arguments(context)],
                remappings=renamed,
                parameters=[sim_time | rig],
                ros_arguments=log_level,
                sigterm_timeout="20",  # it writes out what is still queued
            )
        )
    if value(context, "bag"):
        play = [value(context, "bag"), "--clock", "--wait-for-subscribers", "120"]
        actions.append(Node(package="fsmde_ros", executable="replay", output="screen", arguments=play))
    return [GroupAction(actions)]


def generate_launch_description() -> LaunchDescription:
    """All arguments, then the processes they ask for."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=nodes)])
