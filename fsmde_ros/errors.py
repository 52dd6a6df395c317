"""The one family of exceptions for what a user can cause and mend.

Every message names the thing that is wrong (file, topic, field), the value found, what was
expected, and what to do. Command-line programs print the message without a traceback; the node
turns it into diagnostics. Anything else that is raised is a defect of this package.
"""

from __future__ import annotations

LONGEST = 2000  # characters of a message; what it quotes of a hostile file could be of any length


def one_line(error: BaseException) -> str:
    """What another library says was wrong, in one line."""
    return " ".join(str(error).split())


class FsmdeError(Exception):
    """Base of all errors that a user of this package can cause; a message too long to read is cut in the middle."""

    def __init__(self, message: str) -> None:
        half = LONGEST // 2
        super().__init__(message if len(message) <= LONGEST else f"{message[:half]} ... {message[-half:]}")


class RigError(FsmdeError):
    """A rig, rig file, CameraInfo or extrinsic that cannot be used."""


class ImageError(FsmdeError):
    """An image that cannot be decoded or has an unexpected size or encoding."""


class SourceError(FsmdeError):
    """A dataset or bag that cannot be opened or lacks what is needed."""


class CheckpointError(FsmdeError):
    """A checkpoint or model card that cannot be loaded."""


class BackendError(FsmdeError):
    """An inference backend or device that is not available."""


class ConfigError(FsmdeError):
    """A parameter or configuration value that is out of range or contradicts another."""


class TeacherError(FsmdeError):
    """A teacher model that cannot be loaded or used."""
