"""A cache of what a teacher said, so that it is asked about an image once in its life.

    <root>/<identity of the teacher>/<2 digits>/<sha256 of the image>.disparity

An entry belongs to the pixels of one image, whatever sweep, drive or run they came from: runs and processes
share it without a lock. It is written beside its place and moved there, so that a process that is killed leaves
no half entry, and it carries a checksum, so that a damaged one is made again.
"""

from __future__ import annotations

import hashlib
import os
import struct
import uuid
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from fsmde_ros.errors import TeacherError
from training.teachers.teacher import Kind, Teacher, metric_scale

_HEADER = struct.Struct("<8sIIfI")  # magic, H, W, factor, CRC-32 of all else
_MAGIC = b"FSMDTC1\n"

Image = NDArray[np.uint8]
Disparity = NDArray[np.float32]


@dataclass(frozen=True)
class CachedTeacher:
    """What is known of one teacher without the teacher: small, can be pickled, safe in worker processes."""

    root: Path
    identity: str
    kind: Kind

    def lookup(
        self,
        images: Image,
        present: NDArray[np.bool_] | None = None,
        focal_px: NDArray[np.float64] | None = None,
    ) -> Disparity | None:
        """Disparity of the views of a sweep, up to one scale and shift of the sweep; none where a view is unknown.

        Args:
            images: [V, H, W, 3] uint8 RGB, exactly the pixels that the teacher saw.
            present: [V] bool; views that are not get NaN. None: all are.
            focal_px: [V] focal lengths (x) in pixels of these images, for a canonical teacher.

        Returns:
            [V, H, W] float32, higher is nearer.
        """
        result = np.full(images.shape[:3], np.nan, dtype=np.float32)
        for view, image in enumerate(images):
            if present is None or present[view]:
                disparity = self.read(image)
                if disparity is None:
                    return None
                result[view] = disparity
        focal = None if focal_px is None else torch.from_numpy(np.asarray(focal_px, dtype=np.float64))
        scale = metric_scale(self.kind, focal, images.shape[2])
        return result if scale is None else result * scale.numpy().astype(np.float32)[:, None, None]

    def read(self, image: Image) -> Disparity | None:
        """Disparity [H, W] of one image [H, W, 3]; none where it is not there or damaged."""
        try:
            return decode_entry(self.path(image).read_bytes(), image.shape[:2])
        except FileNotFoundError:
            return None

    def write(self, image: Image, disparity: Disparity) -> None:
        """Keep the disparity [H, W] of an image [H, W, 3]; another process may write the same at the same time."""
        path = self.path(image)
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex}")
        scratch.write_bytes(encode_entry(disparity))
        os.replace(scratch, path)

    def path(self, image: Image) -> Path:
        """Where the entry of an image [H, W, 3] lies, named by its size and pixels."""
        digest = hashlib.sha256(struct.pack("<II", *image.shape[:2]))
        digest.update(np.ascontiguousarray(image).data)
        name = digest.hexdigest()
        return self.root / self.identity / name[:2] / f"{name}.disparity"


def fill_teacher_cache(
    teacher: Teacher, sweeps: Iterable[Image], root: Path, total: int | None = None
) -> CachedTeacher:
    """Ask the teacher about every image that is not in the cache, with a progress bar.

    May be stopped at any time and started again, also in several processes at once.

    Args:
        teacher: asked in batches of its own size.
        sweeps: each [V, H, W, 3] uint8 RGB, present views only; read once, one after another.
        root: folder of all teachers' caches.
        total: number of sweeps, for the progress bar.

    Raises:
        TeacherError: the folder cannot be written, or the teacher gave a value that is not finite.
    """
    cached = CachedTeacher(root, teacher.identity, teacher.kind)
    waiting: list[Image] = []
    try:
        for image in _images(tqdm(sweeps, total=total, desc="asking the teacher", unit="sweep", delay=1)):
            if cached.read(image) is None:
                waiting.append(image)
            if waiting and (len(waiting) >= teacher.batch or waiting[0].shape != waiting[-1].shape):
                kept = [other for other in waiting if other.shape == waiting[0].shape]
                _ask(teacher, kept, cached)
                waiting = [other for other in waiting if other.shape != waiting[0].shape]
        if waiting:
            _ask(teacher, waiting, cached)
    except OSError as error:
        raise TeacherError(
            f"the cache of teacher outputs in {root} cannot be used ({error}); free some space or choose another "
            "folder with teacher.cache"
        ) from error
    return cached


def encode_entry(disparity: Disparity) -> bytes:
    """Bytes of a disparity map [H, W]: float16 of it over its largest magnitude, which float32 keeps."""
    factor = float(np.abs(disparity).max(initial=0)) or 1.0
    payload = (disparity / np.float32(factor)).astype("<f2").tobytes()
    head = _HEADER.pack(_MAGIC, *disparity.shape, factor, 0)
    return _HEADER.pack(_MAGIC, *disparity.shape, factor, zlib.crc32(payload, zlib.crc32(head))) + payload


def decode_entry(data: bytes, size: Sequence[int]) -> Disparity | None:
    """Disparity map of ``size`` (H, W) from its bytes; none where they are damaged or of another size."""
    if len(data) != _HEADER.size + 2 * size[0] * size[1]:
        return None
    magic, height, width, factor, checksum = _HEADER.unpack_from(data)
    payload = data[_HEADER.size :]
    head = _HEADER.pack(magic, height, width, factor, 0)
    if magic != _MAGIC or (height, width) != tuple(size) or checksum != zlib.crc32(payload, zlib.crc32(head)):
        return None
    values = np.frombuffer(payload, dtype="<f2").reshape(height, width)
    return values.astype(np.float32) * np.float32(factor)


def _images(sweeps: Iterable[Image]) -> Iterator[Image]:
    for sweep in sweeps:
        yield from sweep


def _ask(teacher: Teacher, images: Sequence[Image], cached: CachedTeacher) -> None:
    batch = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
    disparity = teacher.predict(batch).disparity.cpu()
    if not torch.isfinite(disparity).all():
        raise TeacherError(
            "the teacher gave values that are not finite; run it with teacher.dtype float32, or check its weights"
        )
    for image, view in zip(images, disparity.numpy(), strict=True):
        cached.write(image, view)
