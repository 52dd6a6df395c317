"""LiDAR points that a camera cannot see: they lie behind what hides them, and would teach a depth that is not there.

The LiDAR stands elsewhere than the camera, mostly higher, and sees over and past near things. In the town 18 % of the
points that fall on things 1 to 5 m away are of what lies behind them. Evaluations keep them, as published ones do.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from training.batch import Sample

BEHIND = 1.05  # of the farthest depth about a point: further back it is hidden


def without_hidden_points(sample: Sample) -> Sample:
    """The sample without the LiDAR points that lie behind its dense depth; where that is unknown all are kept.

    A point is compared with the farthest of the nine pixels about it, as it may lie on either side of an edge.
    """
    unknown = np.where(np.isnan(sample.dense_depth), np.inf, sample.dense_depth)
    farthest = np.stack([cv2.dilate(depth, np.ones((3, 3), np.uint8)) for depth in unknown])
    height, width = sample.size
    view, x, y = np.rint(sample.lidar[:, :3]).astype(np.int64).T
    limit = BEHIND * farthest[view, y.clip(0, height - 1), x.clip(0, width - 1)]
    return replace(sample, lidar=sample.lidar[sample.lidar[:, 3] <= limit])
