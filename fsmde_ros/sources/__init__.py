"""Recorded drives as sweeps: nuScenes, DDAD and ROS 2 bags, and the way from one to the other."""
