"""Start the surround depth node, and by request RViz, a bag and the evaluator beside it.

ros2 launch fsmde_ros surround_depth.launch.py rig_file:=/path/to/rig.yaml
ros2 launch fsmde_ros surround_depth.launch.py bag:=/path/to/bag rig_file:=... rviz:=true
ros2 launch fsmde_ros surround_depth.launch.py --show-args
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ament_index_python.packages import get_package_share_directory
from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, GroupAction, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node, PushRosNamespace

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
        "checkpoint", default_value="", description="Checkpoint (.safetensors); empty: the one in the package."
    ),
    DeclareLaunchArgument("device", default_value="auto", description="auto, cpu, cuda or cuda:N."),
    DeclareLaunchArgument("backend", default_value="auto", description="Inference backend; auto takes the best."),
    DeclareLaunchArgument(
        "cameras", default_value="", description="Names of the cameras, comma separated; empty: those of the rig file."
    ),
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of all nodes and topics."),
    DeclareLaunchArgument("use_sim_time", default_value="false", description="Take the time from /clock."),
    DeclareLaunchArgument("bag", default_value="", description="Bag to play with `ros2 bag play --clock`."),
    DeclareLaunchArgument("rviz", default_value="false", description="Open RViz with the shipped layout."),
    DeclareLaunchArgument("evaluate", default_value="false", description="Compare the depth with the LiDAR."),
    DeclareLaunchArgument("log_level", default_value="info", description="debug, info, warn, error or fatal."),
    DeclareLaunchArgument("respawn", default_value="false", description="Start the node again when it dies."),
]


def overrides(context: LaunchContext) -> dict[str, Any]:
    """Parameters of the node that were given as launch arguments; the others keep their file's values."""

    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    given: dict[str, Any] = {name: value(name) for name in ("rig_file", "checkpoint") if value(name)}
    given.update({name: value(name) for name in ("device", "backend") if value(name) != "auto"})
    if value("cameras"):
        given["cameras"] = [name.strip() for name in value("cameras").split(",")]
    # A bag brings its own time: without /clock its stamps would all look stale.
    given["use_sim_time"] = value("use_sim_time").lower() == "true" or bool(value("bag"))
    return given


def nodes(context: LaunchContext) -> list[GroupAction]:
    """The processes that the arguments ask for."""
    log_level = LaunchConfiguration("log_level")
    parameters = overrides(context)
    sim_time = {"use_sim_time": parameters["use_sim_time"]}
    rig = {name: parameters[name] for name in ("rig_file",) if name in parameters}
    actions: list[Any] = [
        PushRosNamespace(LaunchConfiguration("namespace")),
        Node(
            package="fsmde_ros",
            executable="surround_depth",
            name="surround_depth",
            output="screen",
            parameters=[LaunchConfiguration("params_file"), parameters],
            arguments=["--ros-args", "--log-level", log_level],
            respawn=LaunchConfiguration("respawn").perform(context).lower() == "true",
            respawn_delay=2.0,
        ),
        Node(
            package="fsmde_ros",
            executable="evaluate_replay",
            name="evaluate_replay",
            output="screen",
            parameters=[sim_time | rig],
            condition=IfCondition(LaunchConfiguration("evaluate")),
        ),
        Node(
            package="rviz2",
            executable="rviz2",
            arguments=["-d", str(SHARE / "rviz" / "surround_depth.rviz")],
            parameters=[sim_time],
            condition=IfCondition(LaunchConfiguration("rviz")),
        ),
    ]
    bag = LaunchConfiguration("bag").perform(context)
    if bag:
        actions.append(
            ExecuteProcess(cmd=["ros2", "bag", "play", "--clock", "100", "--delay", "3", bag], output="screen")
        )
    return [GroupAction(actions)]


def generate_launch_description() -> LaunchDescription:
    """All arguments, then the processes they ask for."""
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=nodes)])
