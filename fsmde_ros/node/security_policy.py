"""The SROS 2 policy of the node: a grant for each of its topics and services, and for nothing else.

``python -m fsmde_ros.node.security_policy --rig rig.yaml`` prints it for the cameras of a rig; a test
compares the grants with what the running node has. See ``docs/security.md``.
"""

from __future__ import annotations

import argparse
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fsmde_ros.errors import ConfigError, FsmdeError
from fsmde_ros.node.outputs import STAGES
from fsmde_ros.node.parameters import Settings, check_camera_name
from fsmde_ros.rig_file import read_rig
from fsmde_ros.topics import COLOR, DEPTH, DEPTH_INFO, ODOM, STDDEV, full_name

NAME = "surround_depth"
ENCLAVE = "/surround_depth"
_PARAMETER_SERVICES = (
    *("describe_parameters", "get_parameter_types", "get_parameters", "list_parameters"),
    *("set_parameters", "set_parameters_atomically"),
)
_LIFECYCLE_SERVICES = (
    *("change_state", "get_state", "get_available_states", "get_available_transitions", "get_transition_graph"),
)


@dataclass(frozen=True)
class Grants:
    """Full names of what a node may do: topics to publish, topics to subscribe, services to answer."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]
    reply: tuple[str, ...]


def grants(settings: Settings, namespace: str = "/", tf: bool = False, sim_time: bool = False) -> Grants:
    """What the node needs with these settings.

    Args:
        settings: its parameters; ``cameras`` must be named.
        namespace: that the node is started in.
        tf: the extrinsics or the motion come from TF.
        sim_time: it runs with ``use_sim_time``.

    Raises ConfigError where no cameras are named.
    """
    if not settings.cameras:
        raise ConfigError("the policy needs the cameras: give --rig FILE, or --cameras NAME...")

    def full(name: str) -> str:
        return full_name(f"{NAME}/{name[2:]}" if name.startswith("~/") else name, namespace)

    publish = ["/diagnostics", "/parameter_events", "/rosout", "~/transition_event", "~/points", "~/sweep"]
    publish += ["~/preview/compressed", *(f"~/latency/{stage}" for stage in STAGES)]
    subscribe = [settings.motion_odometry] if settings.motion_odometry and not settings.motion_fixed_frame else []
    subscribe += ["/tf", "/tf_static"] if tf or settings.motion_fixed_frame else []
    subscribe += ["/clock"] if sim_time else []
    image = settings.input_form.topic
    for camera in settings.cameras:
        publish += [f"{camera}/{what}" for what in (DEPTH, DEPTH_INFO, STDDEV, COLOR)]
        subscribe += [f"{camera}/{image}", f"{camera}/camera_info"]
    reply = [f"~/{service}" for service in (*_PARAMETER_SERVICES, *_LIFECYCLE_SERVICES, "get_type_description")]
    return Grants(*(tuple(sorted(map(full, names))) for names in (publish, subscribe, reply)))


def to_xml(granted: Grants, namespace: str = "/", enclave: str = ENCLAVE) -> str:
    """The grants as a policy file of SROS 2 (version 0.2.0): what is not allowed is denied."""
    policy = ET.Element("policy", version="0.2.0")
    place = ET.SubElement(ET.SubElement(policy, "enclaves"), "enclave", path=enclave)
    profile = ET.SubElement(ET.SubElement(place, "profiles"), "profile", ns=namespace, node=NAME)
    for kind, right, item, names in (
        ("topics", "publish", "topic", granted.publish),
        ("topics", "subscribe", "topic", granted.subscribe),
        ("services", "reply", "service", granted.reply),
    ):
        group = ET.SubElement(profile, kind, {right: "ALLOW"})
        for name in names:
            ET.SubElement(group, item).text = name
    ET.indent(policy)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(policy, encoding="unicode") + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Exit status: 0 printed, 2 cannot."""
    parser = argparse.ArgumentParser(prog="security_policy", description="Print the SROS 2 policy of the node.")
    parser.add_argument("--rig", type=Path, help="rig file, whose cameras count")
    parser.add_argument("--cameras", nargs="+", default=[], help="names of the cameras (those of the rig file)")
    parser.add_argument("--raw", action="store_true", help="input.transport is raw")
    parser.add_argument("--unrectified", action="store_true", help="input.rectified is false")
    parser.add_argument("--odometry", default=ODOM, help=f"motion.odometry; empty: off ({ODOM})")
    parser.add_argument("--tf", action="store_true", help="extrinsics or motion come from TF")
    parser.add_argument("--sim-time", action="store_true", help="use_sim_time is true")
    parser.add_argument("--namespace", default="/", help="that the node is started in (/)")
    parser.add_argument("--enclave", default=ENCLAVE, help=f"({ENCLAVE})")
    options = parser.parse_args(argv)
    try:
        names = options.cameras or (read_rig(options.rig).names if options.rig else ())
        for name in names:
            check_camera_name(name, "cameras")
        settings = Settings(
            cameras=tuple(names),
            input_transport="raw" if options.raw else "compressed",
            input_rectified=not options.unrectified,
            motion_odometry=options.odometry,
        )
        granted = grants(settings, options.namespace, options.tf, options.sim_time)
        print(to_xml(granted, options.namespace, options.enclave), end="")
    except FsmdeError as error:
        print(f"security_policy: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
