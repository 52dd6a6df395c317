"""The launch file under ROS 2's launch_testing: `launch_test test/launch_surround_depth.py`.

Needs ROS 2 (launch_testing has no wheel) and the built package; so it is no test_*.py, which pytest would collect.
"""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any

import launch_testing.actions
import launch_testing.asserts
import launch_testing.markers
from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

SHARE = Path(get_package_share_directory("fsmde_ros"))
START_S = 300.0  # a cold start imports torch and warms the network up


@launch_testing.markers.keep_alive
def generate_test_description() -> LaunchDescription:
    """The node as the launch file starts it, for the example rig in a namespace."""
    source = PythonLaunchDescriptionSource(str(SHARE / "launch" / "surround_depth.launch.py"))
    arguments = {"rig_file": str(SHARE / "config" / "example_rig.yaml"), "namespace": "van", "device": "cpu"}
    started = IncludeLaunchDescription(source, launch_arguments=arguments.items())
    return LaunchDescription([started, launch_testing.actions.ReadyToTest()])


class TestStarted(unittest.TestCase):
    """While it runs."""

    def test_it_listens_to_the_cameras_of_the_rig_file(self, proc_output: Any) -> None:
        proc_output.assertWaitFor("listening to front/image_rect/compressed", timeout=START_S, stream="stderr")

    def test_arguments_became_parameters(self, proc_output: Any) -> None:
        proc_output.assertWaitFor('device="cpu"', timeout=START_S, stream="stderr")


@launch_testing.post_shutdown_test()
class TestEnded(unittest.TestCase):
    """After it was interrupted."""

    def test_every_process_ended_well(self, proc_info: Any) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
