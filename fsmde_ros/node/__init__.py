"""Data in motion: the only room that imports rclpy."""

import os

# Read when numpy is loaded, which is after this. The matrices here have three rows; for such a product or inverse
# OpenBLAS wakes a thread on every core, which then spins for 20 ms on cores that the network and the drivers need.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
