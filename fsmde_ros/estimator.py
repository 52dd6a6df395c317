"""From a sweep to its depth: make the input of each view, run the backend, bring its depth to the camera's pixels."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fsmde_ros.backends import Backend, Prediction, build_backend
from fsmde_ros.checkpoint import default_checkpoint, find_checkpoint, load_checkpoint
from fsmde_ros.errors import ImageError
from fsmde_ros.model_card import ModelCard
from fsmde_ros.network.student import OUT_OF_RANGE
from fsmde_ros.network_view import Image, NetworkView, network_view, network_views, take_all
from fsmde_ros.rig import Camera, Rig
from fsmde_ros.self_occlusion import usable_pixels
from fsmde_ros.sweep import EncodedImage, SurroundDepth, Sweep, View

DECODERS = "decode"  # what the names of the threads that decode begin with
_CACHED_RIGS = 64  # a rig hardly ever changes in a drive, but a source may make a new one for every sweep


@dataclass(frozen=True, eq=False)
class PreparedSweep:
    """The views of a sweep that could be decoded, as the network's input.

    Attributes:
        rig: their cameras, rectified and at the size of that.
        stamp_ns: reference time of the sweep, nanoseconds.
        images: [V, 3, H, W] uint8 RGB, channels last in memory; each as its ``NetworkView`` has it.
        failed: why a view was left out, by camera name.
        cameras: names of all cameras of the sweep's rig, also of those without a view; empty: those of ``rig``.
        usable: [V, H, W] where there can be a depth, see ``usable_pixels``; None: everywhere.
        views: how the image of each camera lies in ``images``; empty: as those of ``rig`` would.
    """

    rig: Rig
    stamp_ns: int
    images: NDArray[np.uint8]
    failed: Mapping[str, ImageError]
    cameras: tuple[str, ...] = ()
    usable: NDArray[np.bool_] | None = None
    views: tuple[NetworkView, ...] = ()

    def __post_init__(self) -> None:
        if not self.views:
            size = (self.images.shape[-2], self.images.shape[-1])
            object.__setattr__(self, "views", network_views(self.rig, size))

    @property
    def network_rig(self) -> Rig:
        """The cameras of ``images``, as the network is told of them."""
        told = (view.told(camera) for view, camera in zip(self.views, self.rig.cameras, strict=True))
        return replace(self.rig, cameras=tuple(told))

    def colors(self) -> Image:
        """[V, H, W, 3] RGB of each pixel of ``rig``, as of its depth."""
        return take_all(self.views, self.images).transpose(0, 2, 3, 1)


def run_network(backend: Backend, prepared: PreparedSweep) -> Prediction:
    """One call of a backend: what it says of each pixel of ``prepared.images``."""
    told = prepared.network_rig
    present = np.ones(len(told), dtype=np.bool_)
    return backend(prepared.images, told.intrinsics(), told.camera_to_vehicle(), told.ground_z, present)


class Estimator:
    """Metric depth of the present views of a sweep.

    ``estimator(sweep)`` is ``estimator.infer(estimator.prepare(sweep))``; the two steps are there
    for who wants to time them, or to know which views could not be decoded, and why. Where the views
    of a sweep come one by one, ``load`` begins with each and ``gather`` does the rest of ``prepare``.
    May be used by one thread at a time, ``load`` by any.
    """

    def __init__(self, backend: Backend, card: ModelCard) -> None:
        self.backend = backend
        self.card = card
        self._decoders = ThreadPoolExecutor(min(8, os.cpu_count() or 1), thread_name_prefix=DECODERS)
        self._network_rig = lru_cache(maxsize=_CACHED_RIGS)(self._make_network_rig)
        self._usable = lru_cache(maxsize=_CACHED_RIGS)(self._find_usable)

    @staticmethod
    def from_checkpoint(path: str | Path | None = None, device: str = "auto", backend: str = "auto") -> Estimator:
        """Estimator of a checkpoint, by default the one that comes with the package.

        Args:
            path: of a ``.safetensors`` file, or the name of one that comes with the package.
            device: auto, cpu, cuda or cuda:N.
            backend: auto or a name of ``fsmde_ros.backends.BUILDERS``.

        Raises CheckpointError or BackendError.
        """
        path = default_checkpoint() if path is None else find_checkpoint(path)
        student, card = load_checkpoint(path)
        return Estimator(build_backend(backend, student, device, card.input_size, (path.parent,)), card)

    def close(self) -> None:
        """End the threads that decode; the estimator cannot be used any more."""
        self._decoders.shutdown(wait=False)

    def __call__(self, sweep: Sweep) -> SurroundDepth:
        """Depth of the present views of ``sweep``, at the network's input size.

        Views that cannot be decoded are left out. Raises ImageError where no view is left.
        """
        return self.infer(self.prepare(sweep))

    def prepare(self, sweep: Sweep) -> PreparedSweep:
        """Make the input of the present views; raises ImageError where none can be used."""
        loading = {name: self.load(partial(_image, sweep.views[name]), sweep.rig[name]) for name in sweep.present}
        return self.gather(sweep.rig, sweep.stamp_ns, loading)

    def load(self, image: Callable[[], EncodedImage | Image], camera: Camera) -> Future[Image]:
        """Begin to make the input of an image of ``camera``, in a thread that calls ``image`` for it.

        The future gives [H, W, 3] RGB of the network's input size, or raises ImageError.
        """
        return self._decoders.submit(self._load, image, camera)

    def gather(self, rig: Rig, stamp_ns: int, loading: Mapping[str, Future[Image]]) -> PreparedSweep:
        """The views of a sweep that ``load`` has begun with, when all are done.

        Raises ImageError where none can be used.
        """
        usable, failed = {}, {}
        for name, future in loading.items():
            try:
                usable[name] = future.result()
            except ImageError as error:
                failed[name] = error
        if not usable:
            reasons = "; ".join(f"{name}: {error}" for name, error in failed.items())
            raise ImageError(f"no view of the sweep can be used: {reasons}")
        stacked = np.stack(list(usable.values()))  # [V, H, W, 3]
        names = tuple(usable)
        return PreparedSweep(
            self._network_rig(rig, names),
            stamp_ns,
            stacked.transpose(0, 3, 1, 2),
            failed,
            rig.names,
            self._usable(rig, names),
            network_views(rig.subset(names), self.card.input_size),
        )

    def infer(self, prepared: PreparedSweep) -> SurroundDepth:
        """Run the network on the views of ``prepared``.

        What is more likely out of range than not gets depth +inf and stddev NaN; what is not usable, NaN and NaN.
        """
        said = run_network(self.backend, prepared)
        depth, stddev, out_of_range = (take_all(prepared.views, values) for values in said)
        is_out = out_of_range > OUT_OF_RANGE
        np.copyto(depth, np.float32(np.inf), where=is_out)
        np.copyto(stddev, np.float32(np.nan), where=is_out)
        if prepared.usable is not None:
            for values in (depth, stddev):
                np.copyto(values, np.float32(np.nan), where=~prepared.usable)
        return SurroundDepth(prepared.rig, prepared.stamp_ns, depth, stddev, prepared.cameras)

    def _load(self, source: Callable[[], EncodedImage | Image], camera: Camera) -> Image:
        """[H, W, 3] of the network's input size; ImageError, whatever goes wrong: only this view is to blame."""
        try:
            return network_view(camera, self.card.input_size).image(source(), self.card.student.input_reduction)
        except ImageError:
            raise
        except Exception as error:  # OpenCV's own, memory, a message that cv_bridge stumbles over
            raise ImageError(f"camera '{camera.name}': {type(error).__name__}: {error}") from error

    def _make_network_rig(self, rig: Rig, names: tuple[str, ...]) -> Rig:
        return rig.subset(names).rectified().resized(self.card.input_size)

    def _find_usable(self, rig: Rig, names: tuple[str, ...]) -> NDArray[np.bool_] | None:
        masks = [usable_pixels(rig[name], self.card.input_size) for name in names]
        if all(mask is None for mask in masks):
            return None
        everywhere = np.ones(self.card.input_size, dtype=np.bool_)
        return np.stack([everywhere if mask is None else mask for mask in masks])


def _image(view: View) -> EncodedImage | Image:
    return view.image
