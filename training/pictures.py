"""Pictures for the eye: the images of a sweep over its depth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from training.batch import SweepBatch
from training.module import run_student


def write_depth_picture(path: Path, student: nn.Module, batch: SweepBatch) -> None:
    """Write the first sweep of a batch as PNG: its images, the student's depth, the true depth where known."""
    first = SweepBatch(*(value[:1] for value in batch))
    with torch.no_grad():
        output = run_student(student, first)
    sky = output.out_of_range[0] > 0.5
    depth = torch.where(sky, torch.inf, output.depth[0]).float().cpu().numpy()
    images = first.images[0].permute(0, 2, 3, 1).cpu().numpy()
    truth = first.dense_depth[0].cpu().numpy()
    rows = [np.hstack(list(images)), np.hstack([colour(d) for d in depth]), np.hstack([colour(d) for d in truth])]
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))


def colour(depth: NDArray[np.float32], near: float = 1.5, far: float = 100.0) -> NDArray[np.uint8]:
    """RGB [H, W, 3] of depth [H, W] in metres, by log depth, near red; sky white, no value black."""
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.log(far / depth) / np.log(far / near)
    index = (255 * np.nan_to_num(np.clip(share, 0, 1))).astype(np.uint8)
    rgb = cv2.cvtColor(cv2.applyColorMap(index, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
    rgb[np.isposinf(depth)] = 255
    rgb[np.isnan(depth)] = 0
    return rgb.astype(np.uint8, copy=False)
