"""The parameters of the node: one table for declaration, validation, YAML file and README.

``python -m fsmde_ros.node.parameters yaml`` prints ``config/surround_depth.yaml``, ``markdown`` the
table of the README; a test holds them together.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields
from difflib import get_close_matches
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter

from fsmde_ros.backends import BUILDERS
from fsmde_ros.checkpoint import shipped_names
from fsmde_ros.errors import ConfigError
from fsmde_ros.fusion import FusionConfig
from fsmde_ros.node.messages import INPUT_POLICIES
from fsmde_ros.topics import INPUT_FORMS, ODOM, InputForm

MAX_MILLIMETRES_M = 65.535  # the largest depth that 16UC1 can say
MAX_NAME = 100
QOS_OVERRIDES = "qos_overrides."
_CAMERA_NAME = re.compile(r"/?[A-Za-z_][A-Za-z0-9_]*(/[A-Za-z_][A-Za-z0-9_]*)*")
_KINDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a decimal point",
    str: "a text",
    tuple: "a list of texts",
}


def parameter(
    name: str,
    default: object,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    at_run_time: bool = False,
) -> Any:
    """One row of the table: a parameter that is read-only unless it takes effect ``at_run_time``."""
    row = {
        "name": name,
        "description": description,
        "low": low,
        "high": high,
        "choices": choices,
        "at_run_time": at_run_time,
    }
    return field(default=default, metadata=row)


@dataclass(frozen=True)
class Settings:
    """Values of all parameters; the descriptions are in the table itself.

    Raises ConfigError for a value outside its range and for values that contradict each other.
    """

    autostart: bool = parameter(
        "autostart",
        True,
        "Configure and activate the node when it starts; false leaves that to a lifecycle manager. With nav2's set "
        "bond_timeout: 0.0 there: the node makes no bond, without which that manager takes all of its nodes down.",
    )
    cameras: tuple[str, ...] = parameter(
        "cameras", (), "Names of the cameras; their topics begin with them. Empty: all of the rig file."
    )
    rig_file: str = parameter(
        "rig_file", "", "Rig file (YAML) with the extrinsics, made by rig_from_bag. Empty: they come from TF."
    )
    vehicle_frame: str = parameter(
        "vehicle_frame",
        "",
        "Frame of the cloud, x forward, z up. Empty: that of the rig file, with TF base_link.",
    )
    ground_z: float = parameter(
        "ground_z",
        0.0,
        "Height of the road in the vehicle frame, m: negative where its origin is above the road. Without a rig file "
        "only: such a file has its own.",
        low=-20.0,
        high=20.0,
    )
    checkpoint: str = parameter(
        "checkpoint",
        "",
        f"Checkpoint (.safetensors), or one of the package: {shipped_names()}. Empty: small.",
    )
    device: str = parameter("device", "auto", "auto (CUDA where there is one), cpu, cuda or cuda:N.")
    backend: str = parameter(
        "backend",
        "auto",
        "What runs the network; auto takes the fastest that is installed and ready in seconds.",
        choices=("auto", *BUILDERS),
    )
    on_out_of_memory: str = parameter(
        "on_out_of_memory",
        "cpu",
        "Where the device has too little memory for fewer views at a time either: cpu goes on there, error drops "
        "sweeps and says so.",
        choices=("cpu", "error"),
    )
    input_transport: str = parameter(
        "input.transport",
        "compressed",
        "compressed: CompressedImage (JPEG or PNG) on <topic>/compressed; raw: Image on <topic>.",
        choices=("compressed", "raw"),
    )
    input_rectified: bool = parameter(
        "input.rectified",
        True,
        "true: <camera>/image_rect with P of its CameraInfo; false: <camera>/image_raw with K and D, rectified here.",
    )
    sync_backend: str = parameter(
        "sync.backend",
        "own",
        "own: every sweep with at least one image comes out; message_filters: ApproximateTime, complete sweeps only.",
        choices=("own", "message_filters"),
    )
    sync_window_s: float = parameter(
        "sync.window_s",
        0.05,
        "How far the stamps of a sweep may lie apart until the offsets of the cameras are known, s.",
        low=0.001,
        high=1.0,
    )
    sync_deadline_s: float = parameter(
        "sync.deadline_s",
        0.1,
        "How long after the arrival of its first image an incomplete sweep goes out, s (own only).",
        low=0.001,
        high=10.0,
    )
    sync_anchor: str = parameter(
        "sync.anchor",
        "",
        "Camera whose stamp is that of the sweep. Empty: the middle one in time; with message_filters the first.",
    )
    max_rate_hz: float = parameter(
        "max_rate_hz",
        0.0,
        "Sweeps a second at most, by their stamps, so that other work has its share of the machine; the others are "
        "skipped, but for one with twice the views of the last. Images are then decoded only when their sweep is to be "
        "worked on, not when they arrive. 0: all.",
        low=0.0,
        high=1000.0,
        at_run_time=True,
    )
    motion_odometry: str = parameter(
        "motion.odometry",
        ODOM,
        "Odometry of the vehicle frame; with it depth is corrected by earlier sweeps (motion.stereo), and the cloud is "
        "of one moment, although cameras fire in turn. Empty: off. "
        "/odom is the same topic in any namespace, odom the one within that of the node.",
    )
    motion_fixed_frame: str = parameter(
        "motion.fixed_frame",
        "",
        "The same from TF: a frame that stands still and in which the vehicle moves smoothly, as odom; map jumps when "
        "the localisation corrects itself, and with it a view of the cloud. Also where the odometry is of another "
        "frame than the vehicle's, such as base_footprint. Not both.",
    )
    motion_stereo: bool = parameter(
        "motion.stereo",
        True,
        "Correct the depth by what each camera saw about 1 and 4 m before, by the poses of motion.odometry or "
        "motion.fixed_frame: better, most of all far away, for 20 ms of one core with six views. Without poses, and "
        "while the vehicle stands, nothing changes; nor where the next sweep waits already, as the machine is slow. "
        "Turn it off where the odometry turns wrongly by half a degree or more within such a way.",
        at_run_time=True,
    )
    depth_encoding: str = parameter(
        "depth.encoding",
        "32FC1",
        "32FC1: metres, NaN = no value, +Inf = out of range; 16UC1: millimetres, 0 = neither.",
        choices=("32FC1", "16UC1"),
        at_run_time=True,
    )
    depth_max_range_m: float = parameter(
        "depth.max_range_m",
        0.0,
        "Depth beyond this is out of range, m; 0: only where the model says so.",
        low=0.0,
        high=1000.0,
        at_run_time=True,
    )
    cloud_enabled: bool = parameter(
        "cloud.enabled", True, "Fuse the views to ~/points while somebody listens.", at_run_time=True
    )
    cloud_voxel_m: float = parameter(
        "cloud.voxel_m",
        0.1,
        "Edge of a voxel, in which only the surest point is kept, m; 0 keeps all.",
        low=0.0,
        high=10.0,
        at_run_time=True,
    )
    cloud_stride: int = parameter(
        "cloud.stride",
        2,
        "Every how many pixels of the depth in x and y become a point.",
        low=1,
        high=64,
        at_run_time=True,
    )
    cloud_max_range_m: float = parameter(
        "cloud.max_range_m",
        60.0,
        "Farthest point from the origin of the vehicle frame, m.",
        low=0.1,
        high=1000.0,
        at_run_time=True,
    )
    cloud_max_relative_stddev: float = parameter(
        "cloud.max_relative_stddev",
        0.3,
        "Largest standard deviation of a point as a share of its depth; 0: no limit.",
        low=0.0,
        high=10.0,
        at_run_time=True,
    )
    preview_width: int = parameter(
        "preview.width",
        960,
        "Width of ~/preview/compressed, which is made while somebody listens, px.",
        low=64,
        high=8192,
        at_run_time=True,
    )
    diagnostics_period_s: float = parameter(
        "diagnostics.period_s", 1.0, "Time between two messages on /diagnostics, s.", low=0.1, high=60.0
    )
    latency_budget_ms: float = parameter(
        "latency_budget_ms",
        500.0,
        "From the arrival of the first image to everything published; above it diagnostics warn, ms.",
        low=1.0,
        high=60000.0,
        at_run_time=True,
    )
    stuck_after_s: float = parameter(
        "stuck_after_s",
        5.0,
        "A sweep that is in work for longer means a stuck backend, which diagnostics report as an error, s.",
        low=0.1,
        high=600.0,
        at_run_time=True,
    )

    def __post_init__(self) -> None:
        if isinstance(self.cameras, (list, tuple)):
            object.__setattr__(self, "cameras", tuple(name for name in self.cameras if name != ""))
        for row in fields(self):
            _check_value(row, getattr(self, row.name))
        object.__setattr__(self, "vehicle_frame", self.vehicle_frame.lstrip("/"))  # ROS 1's slash, as of all frames
        if len(set(self.cameras)) != len(self.cameras):
            raise ConfigError(f"parameter cameras: expected each name once, got {list(self.cameras)}")
        for name in self.cameras:
            check_camera_name(name, "parameter cameras")
        if self.sync_anchor and self.cameras and self.sync_anchor not in self.cameras:
            raise ConfigError(
                f"parameter sync.anchor: expected one of cameras {list(self.cameras)} or nothing, "
                f"got '{self.sync_anchor}'"
            )
        self._check_combinations()
        self.fusion()

    def _check_combinations(self) -> None:
        if self.sync_deadline_s < self.sync_window_s:
            raise ConfigError(
                f"parameter sync.deadline_s: {self.sync_deadline_s} s is shorter than sync.window_s, "
                f"{self.sync_window_s} s: sweeps would leave before their last camera; raise it, or lower the window"
            )
        if self.depth_encoding == "16UC1" and self.depth_max_range_m > MAX_MILLIMETRES_M:
            raise ConfigError(
                f"parameter depth.max_range_m: {self.depth_max_range_m} m does not fit depth.encoding 16UC1, expected "
                f"at most {MAX_MILLIMETRES_M} m; use 32FC1, or a shorter range"
            )
        if self.motion_fixed_frame and self.motion_odometry not in ("", ODOM):
            raise ConfigError(
                f"parameter motion.fixed_frame is '{self.motion_fixed_frame}' and motion.odometry is "
                f"'{self.motion_odometry}', expected one of them"
            )
        if self.stuck_after_s * 1000 <= self.latency_budget_ms:
            raise ConfigError(
                f"parameter stuck_after_s: {self.stuck_after_s} s is within latency_budget_ms, "
                f"{self.latency_budget_ms} ms; raise it, or lower the budget"
            )

    def fusion(self) -> FusionConfig:
        """The part that ``fsmde_ros.fusion`` needs."""
        return FusionConfig(
            stride=self.cloud_stride,
            max_range_m=self.cloud_max_range_m,
            max_relative_stddev=self.cloud_max_relative_stddev,
            voxel_m=self.cloud_voxel_m,
        )

    @property
    def input_form(self) -> InputForm:
        """How the images come that the node takes."""
        return InputForm(self.input_rectified, self.input_transport == "compressed")

    def changed(self, values: Mapping[str, Any]) -> Settings:
        """The same settings with new values by parameter name; names of others are ignored."""
        current = {row.name: getattr(self, row.name) for row in fields(self)}
        known = {row.metadata["name"]: row.name for row in fields(self)}
        new = {known[name]: value for name, value in values.items() if name in known}
        return Settings(**{**current, **new})

    def describe(self) -> str:
        """All values in one line."""
        return " ".join(f"{row.metadata['name']}={_yaml_value(getattr(self, row.name))}" for row in fields(self))


def check_camera_name(name: str, where: str) -> None:
    """Raise ConfigError where topics cannot begin with the name of a camera."""
    if not _CAMERA_NAME.fullmatch(name) or len(name) > MAX_NAME:
        raise ConfigError(
            f"{where}: '{name[:MAX_NAME]}' cannot be the name of a camera, because its topics begin with it; expected "
            f"letters, digits and _, not first a digit, parts joined by /, at most {MAX_NAME}"
        )


def declare(node: Node) -> Settings:
    """Declare all parameters and read their values; raises ConfigError where one is unfit."""
    try:
        for row in fields(Settings):
            node.declare_parameter(row.metadata["name"], _ros_value(row.default), _descriptor(row))
    except InvalidParameterTypeException as error:
        raise ConfigError(f"{error}; write a number with a decimal point where a double is expected") from error
    except InvalidParameterValueException as error:
        raise ConfigError(str(error)) from error
    every: dict[str, Any] = node.get_parameters_by_prefix("")  # the stubs take the parameters for their values
    given = {name: parameter.value for name, parameter in every.items()}
    # An empty list in a YAML file, as of cameras, is a parameter without a value to rcl.
    return Settings().changed({name: given[name] for name in names() if given.get(name) is not None})


def untaken(node: Node, of_qos: bool = False, cameras: Sequence[str] = ()) -> list[str]:
    """What to say of parameters that were set for the node and that it does not have: rcl passes over them.

    ``of_qos``: of the overrides of the QoS, which are taken when a topic is made, instead of all others. Those of the
    images of ``cameras`` in a form that the node does not take now are no mistake, as of ``lossless``.
    """
    topics = [node.resolve_topic_name(f"{camera}/{form.topic}") for camera in cameras for form in INPUT_FORMS]
    possible = {
        f"{QOS_OVERRIDES}{topic}.subscription.{policy.name.lower()}" for topic in topics for policy in INPUT_POLICIES
    }
    given = node._parameter_overrides  # rclpy has no public way
    known = [name for name in node.get_parameters_by_prefix("") if name.startswith(QOS_OVERRIDES) == of_qos]
    said = []
    for name in given:
        if node.has_parameter(name) or name in possible or name.startswith(QOS_OVERRIDES) != of_qos:
            continue
        hint = "".join(f"; did you mean {near}?" for near in get_close_matches(name, known, n=1))
        said.append(f"parameter {name}: the node has none of that name{hint}")
    return said


def watch(node: Node, current: Callable[[], Settings], apply: Callable[[Settings], None]) -> None:
    """Refuse unfit values with the reason when they are set at run time, and ``apply`` the others."""

    def validate(parameters: Sequence[Parameter]) -> SetParametersResult:
        try:
            current().changed({p.name: p.value for p in parameters})
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def take(parameters: Sequence[Parameter]) -> None:
        apply(current().changed({p.name: p.value for p in parameters}))

    node.add_on_set_parameters_callback(validate)
    node.add_post_set_parameters_callback(take)


def names() -> list[str]:
    """Names of all parameters, in the order of the table."""
    return [row.metadata["name"] for row in fields(Settings)]


def to_yaml() -> str:
    """The shipped parameter file, with the description of each parameter above it."""
    lines = [
        "# Generated by `python -m fsmde_ros.node.parameters yaml`; the defaults of the node.",
        "/**:",
        "  ros__parameters:",
    ]
    for row in fields(Settings):
        lines += [
            f"    # {row.metadata['description']}{_limits(row)}",
            f"    {row.metadata['name']}: {_yaml_value(_ros_value(row.default))}",
        ]
    return "\n".join(lines) + "\n"


def to_markdown() -> str:
    """The table of the README."""
    lines = ["| parameter | default | set at run time | meaning |", "|---|---|---|---|"]
    for row in fields(Settings):
        default, moment = _yaml_value(_ros_value(row.default)), "yes" if row.metadata["at_run_time"] else "no"
        meaning = f"{row.metadata['description']}{_limits(row)}"
        lines.append(f"| `{row.metadata['name']}` | `{default}` | {moment} | {meaning} |")
    return "\n".join(lines) + "\n"


def _check_value(row: Field[Any], value: object) -> None:
    name, low, high, choices = (row.metadata[key] for key in ("name", "low", "high", "choices"))
    kind = type(row.default)
    if type(value) is not kind or (isinstance(value, tuple) and not all(isinstance(item, str) for item in value)):
        raise ConfigError(f"parameter {name}: expected {_KINDS[kind]}, got {value!r:.80}")
    if choices and value not in choices:
        raise ConfigError(f"parameter {name}: expected one of {', '.join(choices)}, got '{value}'")
    if low is not None and not (isinstance(value, (int, float)) and low <= value <= high):
        raise ConfigError(f"parameter {name}: expected {low} to {high}, got {value}")


def _descriptor(row: Field[Any]) -> ParameterDescriptor:
    meta = row.metadata
    descriptor = ParameterDescriptor(
        description=meta["description"],
        read_only=not meta["at_run_time"],
        additional_constraints=f"one of {', '.join(meta['choices'])}" if meta["choices"] else "",
    )
    if isinstance(row.default, float):
        descriptor.floating_point_range = [FloatingPointRange(from_value=meta["low"], to_value=meta["high"])]
    elif meta["low"] is not None:
        descriptor.integer_range = [IntegerRange(from_value=meta["low"], to_value=meta["high"])]
    return descriptor


def _ros_value(default: object) -> object:
    """A list is declared with one empty name: rclpy takes an empty list for bytes."""
    assert default is not MISSING  # every row has a default
    return [""] if default == () else default


def _yaml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(f'"{item}"' for item in value) + "]"
    return str(value)


def _limits(row: Field[Any]) -> str:
    low, high, choices = row.metadata["low"], row.metadata["high"], row.metadata["choices"]
    if choices:
        return f" One of {', '.join(choices)}."
    return "" if low is None else f" {low} to {high}."


def main(argv: Sequence[str] | None = None) -> int:
    """Print the parameter file or the README table."""
    printers = {"yaml": to_yaml, "markdown": to_markdown}
    arguments = sys.argv[1:] if argv is None else list(argv)
    if len(arguments) != 1 or arguments[0] not in printers:
        print("usage: python -m fsmde_ros.node.parameters yaml|markdown", file=sys.stderr)
        return 2
    print(printers[arguments[0]](), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
