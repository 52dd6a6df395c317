"""Files that a backend makes of a checkpoint, and never takes for those of another one.

The name of a file holds a hash of all that it depends on, so a stale file is not found rather
than used. It is looked for beside the checkpoint (where ``python -m training.export`` leaves it)
and in the cache of the user (where a node leaves what it had to build).
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fsmde_ros.checkpoint import hash_weights
from fsmde_ros.errors import BackendError
from fsmde_ros.network.student import Student

CACHE_VARIABLE = "FSMDE_ROS_CACHE"
_NETWORK = Path(__file__).resolve().parents[1] / "network"
_WRITERS = tuple(Path(__file__).with_name(f"{name}.py") for name in ("folding", "onnx_graph", "padded", "tensorrt"))


@dataclass(frozen=True)
class BuildKey:
    """What a built file depends on.

    Attributes:
        student: hash of weights, shape and program text of the network.
        size: (H, W) of the images.
        views: number of views; fewer are served too, as missing ones, in the time of all.
        suffix: of the file, such as ``.onnx``.
        precision: float32, float16 or int8.
        versions: of the libraries whose other versions could not read it.
        device: name of the only device that can run it; empty where any can.
    """

    student: str
    size: tuple[int, int]
    views: int
    suffix: str
    precision: str = "float32"
    versions: str = ""
    device: str = ""

    @property
    def file_name(self) -> str:
        """Readable in front and unmistakable at its end."""
        return self._name(str(self.views))

    def _name(self, views: str) -> str:
        rest = repr((self.student, self.versions, self.device))
        digest = hashlib.sha256(rest.encode()).hexdigest()[:12]
        height, width = self.size
        return f"student-{height}x{width}-{views}views-{self.precision}-{digest}{self.suffix}"

    def find(self, folders: Sequence[Path]) -> tuple[Path, int] | None:
        """The file in ``folders``, or else the cache, that serves the fewest views but enough; and how many."""
        form = re.compile(re.escape(self._name("*")).replace(r"\*", "([0-9]+)"))
        paths = (path for folder in (*folders, cache_folder()) for path in _listed(folder, self._name("*")))
        views = {path: int(match[1]) for path in paths if (match := form.fullmatch(path.name))}
        enough = [path for path, number in views.items() if number >= self.views]
        best = min(enough, key=views.__getitem__, default=None)  # of equals the first, in the order of the folders
        return None if best is None else (best, views[best])

    def find_or_build(self, folders: Sequence[Path], build: Callable[[Path], None]) -> tuple[Path, int]:
        """The file for just as many views, built into the cache where it is nowhere yet.

        One for more views works too, but takes the time of all of them: it is used where none can be built.
        ``build`` writes the file to the path that it is given, or raises BackendError.
        Raises BackendError where nothing was found and the file cannot be built, or the cache cannot be written.
        """
        found = self.find(folders)
        if found is not None and found[1] == self.views:
            return found
        try:
            return self._build(build), self.views
        except BackendError:
            if found is None:
                raise
            return found

    def _build(self, build: Callable[[Path], None]) -> Path:
        path = cache_folder() / self.file_name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, build)
        except OSError as error:
            raise BackendError(
                f"{path}: cannot be written ({error.strerror}); set {CACHE_VARIABLE} to a folder that can be"
            ) from error
        return path


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` write a file that is at ``path`` only when it is whole, whoever else writes it at the same time.

    Files that it leaves beside it, of the same stem, come along, before it. A node may start meanwhile, or the writer
    be interrupted: half a file would be taken for one. Raises OSError where that is not possible.
    """
    # A folder of our own: of two containers that share a cache, both may be process number 1.
    with tempfile.TemporaryDirectory(prefix=".build-", dir=path.parent, ignore_cleanup_errors=True) as folder:
        made = Path(folder) / path.name
        write(made)
        for file in sorted(Path(folder).iterdir(), key=lambda file: file == made):
            os.replace(file, path.with_name(file.name))


def _listed(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder; none where it may not be read, such as the cache of another user."""
    try:
        return list(folder.glob(pattern))
    except OSError:
        return []


def hash_student(student: Student) -> str:
    """Hash of the weights, the shape and the program text of the network, and of what writes it to files."""
    digest = hashlib.sha256(hash_weights(student.state_dict()).encode())
    digest.update(repr(student.config).encode())
    for file in (*sorted(_NETWORK.glob("*.py")), *_WRITERS):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def cache_folder() -> Path:
    """Where built files are kept: $FSMDE_ROS_CACHE, else fsmde_ros in $XDG_CACHE_HOME or ~/.cache."""
    own = os.environ.get(CACHE_VARIABLE)
    if own:
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fsmde_ros"
