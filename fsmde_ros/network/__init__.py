"""The student network: torch only, no file, no ROS, no weights."""
