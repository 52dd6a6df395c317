"""The order of the tests: quick ones first, so that a mistake shows early."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests without DDS and not slow, then those with DDS, then slow ones; otherwise in the order of the files."""
    items.sort(
        key=lambda item: (item.get_closest_marker("slow") is not None, item.get_closest_marker("ros") is not None)
    )
