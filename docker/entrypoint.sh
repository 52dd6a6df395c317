#!/bin/bash
# As the entry point of the official ROS images: set up ROS and our workspace, then run the command.
set -e
source "/opt/ros/$ROS_DISTRO/setup.bash" --
source /ws/install/setup.bash --
exec "$@"
