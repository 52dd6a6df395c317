"""Which topics have met a publisher: before that, what is published is lost, whatever the graph says."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from rclpy.event_handler import QoSSubscriptionMatchedInfo, SubscriptionEventCallbacks


class Connections:
    """Topics that somebody waits for.

    Attributes:
        awaited: those that have not met a publisher yet.
    """

    def __init__(self, topics: Iterable[str], complete: Callable[[], None]) -> None:
        """``complete`` is called once, when the last of ``topics`` has met its publisher."""
        self.awaited = set(topics)
        self._complete = complete

    def events(self, topic: str) -> SubscriptionEventCallbacks:
        """To make the subscription to ``topic`` with."""

        def matched(info: QoSSubscriptionMatchedInfo) -> None:
            if info.current_count and topic in self.awaited:
                self.awaited.remove(topic)
                if not self.awaited:
                    self._complete()

        return SubscriptionEventCallbacks(matched=matched)
