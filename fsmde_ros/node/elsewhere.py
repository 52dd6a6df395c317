"""Images of a camera that the node does not listen to, because its parameters say raw or rectified otherwise."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from rclpy.node import Node

from fsmde_ros.node.parameters import Settings
from fsmde_ros.topics import image_topic


class Elsewhere:
    """Looks for the images of cameras that were never heard, and says in the log where they are, once."""

    def __init__(self, node: Node, settings: Settings) -> None:
        self._node, self._settings = node, settings
        self._found: dict[str, str] = {}
        self._told: set[str] = set()

    def find(self, unheard: Iterable[str]) -> dict[str, str]:
        """Where images of the cameras ``unheard`` are, and how to take them, by camera; without those that have none.

        The log tells it when it was found twice in a row, because topics are discovered one by one.
        """
        found = {name: hint for name in unheard if (hint := self._hint(name))}
        untold = [name for name in found if self._found.get(name) == found[name] and name not in self._told]
        self._found = found
        if untold:
            self._told.update(untold)
            topic = self._node.resolve_topic_name(f"{untold[0]}/{self._settings.image_topic()}")
            self._node.get_logger().warning(
                f"no images of {', '.join(untold)}: nobody publishes {topic}; {found[untold[0]]}"
            )
        return found

    def _hint(self, name: str) -> str:
        """Empty where the camera's own topic has a publisher, or none of them has."""
        settings = self._settings
        if self._node.count_publishers(f"{name}/{settings.image_topic()}"):
            return ""
        for is_rectified, is_compressed in product((True, False), repeat=2):
            topic = f"{name}/{image_topic(is_rectified, is_compressed)}"
            if self._node.count_publishers(topic):
                transport = "compressed" if is_compressed else "raw"
                values = {"input.rectified": str(is_rectified).lower(), "input.transport": transport}
                own = {"input.rectified": str(settings.input_rectified).lower()}
                own["input.transport"] = settings.input_transport
                parameters = " ".join(f"-p {key}:={value}" for key, value in values.items() if own[key] != value)
                return f"{self._node.resolve_topic_name(topic)} is published: start the node with {parameters}"
        return ""
