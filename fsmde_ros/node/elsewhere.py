"""Images of a camera that the node does not listen to, because its parameters say raw or rectified otherwise."""

from __future__ import annotations

from collections.abc import Iterable

from rclpy.node import Node

from fsmde_ros.node.parameters import Settings
from fsmde_ros.topics import INPUT_FORMS, InputForm


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
            topic = self._topic(untold[0], self._settings.input_form)
            self._node.get_logger().warning(
                f"no images of {', '.join(untold)}: nobody publishes {topic}; {found[untold[0]]}"
            )
        return found

    def _hint(self, name: str) -> str:
        """Empty where the camera's own topic has a publisher, or none of them has."""
        now = self._settings.input_form
        if self._node.count_publishers(self._topic(name, now)):
            return ""
        for form in INPUT_FORMS:
            topic = self._topic(name, form)
            if self._node.count_publishers(topic):
                parameters = " ".join(f"-p {change}" for change in form.changes(now))
                return f"{topic} is published: start the node with {parameters}"
        return ""

    def _topic(self, name: str, form: InputForm) -> str:
        """With namespace and remapping: rclpy counts the publishers of a topic as it is named, and remaps nothing."""
        topic: str = self._node.resolve_topic_name(f"{name}/{form.topic}")
        return topic
