"""Regression guard: times as ratios to a fixed computation in the same run.

A time says more about the machine than about a change; a ratio to work of the same kind hardly
depends on either. The bounds are about twice what was measured (docs/benchmark.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from fsmde_ros import images
from fsmde_ros.backends import build_backend
from fsmde_ros.benchmark.stages import CLOUD
from fsmde_ros.benchmark.timing import interleave
from fsmde_ros.benchmark.workload import CAMERA_SIZE, make_picture, prepared_sweep
from fsmde_ros.estimator import Estimator, run_network
from fsmde_ros.fusion import fuse
from fsmde_ros.model_card import ModelCard
from fsmde_ros.network.student import Student

SIZE, VIEWS = (192, 320), 6
BOUNDS = {"network, eager": 12.0, "fuse the cloud": 2.0, "decode a JPEG of 1600x900": 0.6}


@dataclass(frozen=True)
class Check:
    """Ratio of a subject to the reference, and the largest that passes."""

    name: str
    ratio: float
    bound: float

    @property
    def passes(self) -> bool:
        """Whether the ratio is within the bound."""
        return self.ratio <= self.bound


def reference() -> Callable[[], object]:
    """Fixed work: two convolutions, a matrix product and passes over memory, some milliseconds."""
    torch.manual_seed(0)
    maps, weights = torch.randn(4, 64, 96, 160), torch.randn(64, 64, 3, 3)
    matrix = torch.randn(512, 512)

    @torch.inference_mode()
    def call() -> object:
        x = torch.nn.functional.conv2d(maps, weights, padding=1).relu_()
        return x.softmax(dim=1).sum() + (matrix @ matrix).sum()

    return call


def check(rounds: int) -> list[Check]:
    """Measure every subject against the reference; each round measures both."""
    torch.manual_seed(0)
    student = Student().eval()
    card = ModelCard("random", student.config, SIZE, "none", "none", "none")
    estimator = Estimator(build_backend("torch", student, "cpu"), card)
    sweep = prepared_sweep(VIEWS, SIZE)
    depth, colours = estimator.infer(sweep), sweep.colors()
    jpeg = images.encode_jpeg(make_picture(CAMERA_SIZE, 0))
    subjects: dict[str, Callable[[], object]] = {
        "reference": reference(),
        "network, eager": lambda: run_network(estimator.backend, sweep),
        "fuse the cloud": lambda: fuse(depth, colours, CLOUD),
        "decode a JPEG of 1600x900": lambda: images.decode(jpeg),
    }
    times = interleave(subjects, rounds)
    base = times["reference"].median_ms
    return [Check(name, times[name].median_ms / base, bound) for name, bound in BOUNDS.items()]
