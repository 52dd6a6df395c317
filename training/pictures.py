"""Pictures for the eye: the images of a sweep over its depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from torch import nn

from fsmde_ros.network.student import OUT_OF_RANGE
from training.batch import SweepBatch
from training.module import run_student


class DepthPictures(Callback):
    """At every validation writes the first sweep, images over depth, as a file and to TensorBoard."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: SweepBatch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Write ``step-N.png``."""
        if batch_idx == 0 and trainer.is_global_zero:
            picture = depth_picture(pl_module.average, batch)
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / f"step-{trainer.global_step:06d}.png"
            cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_image("val/depth", picture, trainer.global_step, dataformats="HWC")


def depth_picture(student: nn.Module, batch: SweepBatch) -> NDArray[np.uint8]:
    """RGB picture of the first sweep of a batch: its images, the student's depth, what is known of the depth.

    That is the dense depth, or else the LiDAR with each point a little enlarged.
    """
    first = SweepBatch(*(value[:1] for value in batch))
    with torch.no_grad():
        output = run_student(student, first)
    sky = output.out_of_range[0] > OUT_OF_RANGE
    depth = torch.where(sky, torch.inf, output.depth[0]).float().cpu().numpy()
    images = first.images[0].permute(0, 2, 3, 1).cpu().numpy()
    truth = first.dense_depth[0].cpu().numpy()
    if np.isnan(truth).all():
        truth = np.stack([_enlarged(view) for view in first.lidar_depth[0].cpu().numpy()])
    rows = [np.hstack(list(images)), np.hstack([colour(d) for d in depth]), np.hstack([colour(d) for d in truth])]
    return np.vstack(rows)


def _enlarged(depth: NDArray[np.float32]) -> NDArray[np.float32]:
    """Depth [H, W] of single points, NaN elsewhere, with every point 3 x 3 pixels large, the nearest on top."""
    far = np.nan_to_num(depth, nan=np.inf)
    spread = cv2.erode(far, np.ones((3, 3)), borderType=cv2.BORDER_REPLICATE)
    return np.where(np.isinf(spread), np.nan, spread).astype(np.float32)


def colour(depth: NDArray[np.float32], near: float = 1.5, far: float = 100.0) -> NDArray[np.uint8]:
    """RGB [H, W, 3] of depth [H, W] in metres, by log depth, near red; sky white, no value black."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.log(far / depth) / np.log(far / near)
    index = (255 * np.nan_to_num(np.clip(share, 0, 1))).astype(np.uint8)
    rgb = cv2.cvtColor(cv2.applyColorMap(index, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    rgb[np.isposinf(depth)] = 255
    rgb[np.isnan(depth)] = 0
    return rgb.astype(np.uint8, copy=False)
