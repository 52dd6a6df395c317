"""Backends whose programs are compiled for one number of views and one image size.

A sweep with fewer views is padded with missing ones, which the student ignores: a camera that
fails must not make the node compile while it drives. A sweep with more views compiles anew.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fsmde_ros.backends.backend import Prediction
from fsmde_ros.backends.memory_guard import is_out_of_memory

Feed = Mapping[str, NDArray[Any]]
Program = Callable[[Feed], Sequence[NDArray[np.float32]]]  # depth, stddev, out_of_range, each [1, V, H, W]


def empty_feed(views: int, size: tuple[int, int]) -> dict[str, NDArray[Any]]:
    """Inputs of the student's graph, by name, for ``views`` views that are all missing.

    images [1, V, 3, H, W] uint8 RGB, intrinsics [1, V, 3, 3] pixels, camera_to_vehicle [1, V, 4, 4] metres,
    ground_z [1] metres, present [1, V].
    """
    return {
        "images": np.zeros((1, views, 3, *size), np.uint8),
        "intrinsics": np.tile(np.eye(3, dtype=np.float32), (1, views, 1, 1)),
        "camera_to_vehicle": np.tile(np.eye(4, dtype=np.float32), (1, views, 1, 1)),
        "ground_z": np.zeros(1, np.float32),
        "present": np.zeros((1, views), np.bool_),
    }


def _fill(planes: NDArray[np.uint8], images: NDArray[np.uint8]) -> None:
    """Copy images [V, 3, H, W] into the first of ``planes`` [N, 3, H, W].

    The estimator's lie in memory pixel by pixel; OpenCV takes those apart ten times as fast as NumPy.
    """
    pixels = images.transpose(0, 2, 3, 1)
    if not pixels.flags.c_contiguous:
        planes[: len(images)] = images
        return
    for own, picture in zip(planes, pixels, strict=False):
        cv2.split(picture, list(own))


@dataclass(frozen=True, eq=False)
class _Compiled:
    """A program with the inputs that it is fed from."""

    views: int
    size: tuple[int, int]
    feed: Feed
    program: Program


class PaddedBackend(ABC):
    """Keeps one compiled program; see the module."""

    def __init__(self) -> None:
        self._compiled: _Compiled | None = None

    @abstractmethod
    def compile(self, views: int, size: tuple[int, int]) -> tuple[Program, int]:
        """A program for ``views`` views or more of images of ``size`` (H, W), and for how many; raises BackendError."""

    def __call__(
        self,
        images: NDArray[np.uint8],
        intrinsics: NDArray[np.float64],
        camera_to_vehicle: NDArray[np.float64],
        ground_z: float,
        present: NDArray[np.bool_],
    ) -> Prediction:
        """See ``Backend``."""
        views = len(images)
        compiled = self._program_for(views, (images.shape[2], images.shape[3]))
        feed = compiled.feed
        _fill(feed["images"][0], images)
        feed["intrinsics"][0, :views] = intrinsics
        feed["camera_to_vehicle"][0, :views] = camera_to_vehicle
        feed["ground_z"][0] = ground_z
        feed["present"][0, :views] = present
        feed["present"][0, views:] = False
        try:
            outputs = compiled.program(feed)
        except Exception as error:
            if is_out_of_memory(error):
                self._compiled = None  # fewer views at a time need a smaller program
            raise
        return Prediction(*(output[0, :views] for output in outputs))

    def _program_for(self, views: int, size: tuple[int, int]) -> _Compiled:
        compiled = self._compiled
        if compiled is None or compiled.size != size or compiled.views < views:
            self._compiled = None  # the old one goes before the new one takes memory
            program, room = self.compile(views, size)
            self._compiled = compiled = _Compiled(room, size, empty_feed(room, size), program)
        return compiled
