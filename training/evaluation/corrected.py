"""Motion stereo in an evaluation: it is given the sweeps before each, and what it corrects has figures of its own."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fsmde_ros.errors import ImageError, SourceError
from fsmde_ros.estimator import PreparedSweep
from fsmde_ros.motion_stereo import Keyframe, MotionStereo, is_complete, keyframe
from fsmde_ros.sweep import SurroundDepth, Sweep
from training.data_source import DataSource, LazySweeps
from training.evaluation.overlap import ViewAgreement, disagreement
from training.evaluation.points import DepthRange, ImagePoints, at_size_of
from training.evaluation.sigma import SigmaCalibration


class Correction:
    """Motion stereo of the sweeps of a drive, with the sweeps before each, as the node has them.

    What was read for one sweep is kept until the next, which mostly needs it again.
    """

    def __init__(self, data: DataSource, tell: Callable[[Sweep], PreparedSweep]) -> None:
        """``tell`` gives the views of a sweep with the rig that the network is told; ImageError where there are none.

        With a rig that is told wrong, the earlier places of the cameras are as wrong: its user knows no other.
        """
        self._data = data
        self._tell = tell
        self._stereo = MotionStereo()
        self._kept: dict[Hashable, Keyframe | None] = {}  # None: cannot be read

    def close(self) -> None:
        """End the threads."""
        self._stereo.close()

    def __call__(self, index: int, sweep: Sweep, told: PreparedSweep, estimate: SurroundDepth) -> SurroundDepth:
        """The corrected estimate of ``sweep``, number ``index`` of the drive, whose views are ``told``."""
        now = _keyframe(sweep, told)
        return self._stereo.correct(estimate, now, self._earlier(index, now) if now.sights else [])

    def _earlier(self, index: int, now: Keyframe) -> list[Keyframe]:
        """As many sweeps before ``now`` as are needed, the latest first; those that cannot be read are left out."""
        before = self._data.before(index)
        found: list[Keyframe] = []
        used: dict[Hashable, Keyframe | None] = {}
        for place, key in enumerate(before.keys):
            if is_complete(now, found):
                break
            used[key] = self._kept[key] if key in self._kept else self._read(before, place)
            if (frame := used[key]) is not None:
                found.append(frame)
        if isinstance(self._data.sweeps, LazySweeps):
            used[self._data.sweeps.keys[index]] = now
        self._kept = used
        return found

    def _read(self, sweeps: LazySweeps, place: int) -> Keyframe | None:
        try:
            sweep = sweeps[place]
            return _keyframe(sweep, self._tell(sweep))
        except (ImageError, SourceError):
            return None


def _keyframe(sweep: Sweep, told: PreparedSweep) -> Keyframe:
    poses = {name: sweep.views[name].vehicle_to_map for name in told.rig.names}
    return keyframe(told.rig, sweep.stamp_ns, told.colors(), poses)


class CorrectedTally:
    """Figures of the corrected estimates besides their row: how many images were compared, sigma, and the views."""

    def __init__(self, limits: DepthRange, bands: tuple[tuple[float, float], ...]) -> None:
        """``limits`` and ``bands``: those of the ``Tally`` beside it."""
        self._limits = limits
        self._sigma = SigmaCalibration(bands)
        self._agreement = ViewAgreement()
        self._images = 0

    def add(
        self, sweep: Sweep, estimate: SurroundDepth, corrected: SurroundDepth, images: Sequence[ImagePoints]
    ) -> None:
        """Take in one sweep and the points that it was scored at, which have the corrected depth."""
        limits = self._limits
        self._agreement.add(disagreement(at_size_of(sweep, corrected), corrected, limits.min, limits.max))
        for image in images:
            # a view that was compared has another sigma wherever it has one
            before, after = (depths.view(image.camera)[1] for depths in (estimate, corrected))
            self._images += not np.array_equal(before, after, equal_nan=True)
            if image.corrected is not None and image.corrected_stddev is not None:
                self._sigma.add(replace(image, predicted=image.corrected, stddev=image.corrected_stddev))

    def report(self) -> dict[str, Any]:
        """For JSON. ``images``: scored ones that were compared with an earlier one; the other figures are of all."""
        return {
            "images": self._images,
            "sigma": self._sigma.as_dict(),
            "view_disagreement": self._agreement.as_dict(),
        }
