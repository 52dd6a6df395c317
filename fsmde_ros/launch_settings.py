"""What the launch files have to know of the node: its rig, where it takes its images and poses, other names for topics.

What stands beside the node, an evaluator or a viewer, follows the same arguments and the same file of parameters.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from fsmde_ros.errors import ConfigError
from fsmde_ros.topics import InputForm, full_name

NODE_NAMES = ("surround_depth", "*", "**")  # what a section of the node can end in, as launch names it
PARAMETERS = "ros__parameters"


def image_topic_of(params_file: Path, transport: str, rectified: str) -> str:
    """The topic as launch arguments say, which may be empty, or else the parameters of the node in a file.

    Raises ConfigError for a file that cannot be read, or a ``rectified`` that is no switch.
    """
    if rectified:
        rectified = str(is_on("rectified", rectified))
    known = _node_parameters(params_file)
    given = {"input.transport": transport, "input.rectified": rectified}
    wanted = {name: text or str(known.get(name, "")) for name, text in given.items()}
    is_rectified = wanted["input.rectified"].lower() not in ("false", "0")
    return InputForm(is_rectified, wanted["input.transport"] != "raw").topic


def is_on(name: str, text: str) -> bool:
    """A launch argument as a switch. Raises ConfigError for what is neither true nor false."""
    if text.lower() not in ("true", "1", "false", "0"):
        raise ConfigError(f"{name}:={text}: expected true or false")
    return text.lower() in ("true", "1")


def misspelt(given: Iterable[str], known: Collection[str]) -> list[str]:
    """What to say of launch arguments that are nearly, but not quite, one of ours: launch passes over them.

    Others may be of a launch file that includes ours.
    """
    near = {name: get_close_matches(name, known, n=1, cutoff=0.75) for name in given if name not in known}
    return [f"no launch argument '{name}' here; did you mean {found[0]}?" for name, found in near.items() if found]


def rig_file_of(params_file: Path, given: str) -> str:
    """The rig file as the launch argument says, which may be empty, or else the parameters of the node; may be empty.

    Raises ConfigError for a file that cannot be read.
    """
    return given or _text(params_file, "rig_file")


def cameras_of(params_file: Path, given: str) -> list[str]:
    """Names by commas as the launch argument says, or else those of the parameters of the node; may be none.

    Raises ConfigError for a file that cannot be read.
    """
    return names_in(given) or [str(name) for name in _node_parameters(params_file).get("cameras") or [] if name]


def odometry_of(params_file: Path, given: str) -> str:
    """Topic of the odometry as the launch argument says, which may be empty, or else the parameters of the node.

    Empty where the node takes none, or says nothing of it. Raises ConfigError for a file that cannot be read.
    """
    return given or _text(params_file, "motion.odometry")


def odometry_parameter(params_file: Path, given: str) -> dict[str, str]:
    """The launch argument as a parameter of the node; none where that takes its motion from TF, and not from both."""
    by_tf = _node_parameters(params_file).get("motion.fixed_frame")
    return {"motion.odometry": given} if given and not by_tf else {}


def vehicle_frame_of(params_file: Path) -> str:
    """The vehicle frame that the parameters of the node name, as it has it; may be empty.

    Raises ConfigError as the others do.
    """
    return _text(params_file, "vehicle_frame").lstrip("/")


def ground_z_of(params_file: Path) -> str:
    """Height of the road that the parameters of the node give; may be empty. Raises ConfigError as the others do."""
    return _text(params_file, "ground_z")


def names_in(text: str) -> list[str]:
    """Names by commas; may be none."""
    return [name for name in (part.strip() for part in text.split(",")) if name]


def remappings(text: str) -> list[tuple[str, str]]:
    """Pairs of topics of ``/node's/name:=/other/name,...``; raises ConfigError for what is none."""
    pairs = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        ours, sign, theirs = (part.strip() for part in item.partition(":="))
        if not (ours and sign and theirs):
            raise ConfigError(
                f"remap:={text}: expected FROM:=TO, several by commas, such as "
                "/front/image_rect/compressed:=/cam0/image/compressed,/front/camera_info:=/cam0/camera_info, got "
                f"'{item}'"
            )
        pairs.append((ours, theirs))
    return pairs


def full_remappings(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """``remappings`` by the full names of the topics, for nodes without a namespace."""
    return {full_name(ours): full_name(theirs) for ours, theirs in pairs}


def _text(params_file: Path, name: str) -> str:
    """A parameter as an argument of a program; empty where it is not given, empty or 0."""
    return str(_node_parameters(params_file).get(name) or "")


def _node_parameters(path: Path) -> Mapping[str, Any]:
    """Parameters of the node by their full name, whatever its namespace; of two sections the later one counts.

    As rclpy has it, for which wildcards are no less than names. Other nodes may have sections in the same file.
    """
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"params_file {path} cannot be read: {error}") from error
    flat: dict[str, Any] = {}
    for name, parameters in _sections("", content):
        if name.rpartition("/")[2] in NODE_NAMES:
            _flatten("", parameters, flat)
    return flat


def _sections(name: str, tree: object) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Full names of nodes and their parameters: a namespace is part of a node's name, or a mapping around it."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if key != PARAMETERS:
            yield from _sections(f"{name}/{key}", value)
        elif isinstance(value, dict):
            yield name, value


def _flatten(prefix: str, tree: Mapping[str, Any], into: dict[str, Any]) -> None:
    for name, value in tree.items():
        if isinstance(value, dict):
            _flatten(f"{prefix}{name}.", value, into)
        else:
            into[f"{prefix}{name}"] = value
