"""What the documents say against what is there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from fsmde_ros.node.parameters import to_markdown

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_parameter_table_is_that_of_the_code() -> None:
    text = (ROOT / "README.md").read_text()
    table = text.split("<!-- parameters -->")[1].split("<!-- /parameters -->")[0]
    assert table.strip() == to_markdown().strip()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_and_named_files_exist(document: Path) -> None:
    text = document.read_text()
    links = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    named = re.findall(r"`((?:fsmde_ros|training|test|config|rviz|launch|docs|requirements)/[\w./-]+\.\w+)`", text)
    for target in [*links, *named]:
        assert (document.parent / target).exists() or (ROOT / target).exists(), f"{document.name} names {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_modules_that_are_run_exist(document: Path) -> None:
    for module in re.findall(r"-m ((?:fsmde_ros|training|demo)[\w.]*)", document.read_text()):
        assert importlib.util.find_spec(module), f"{document.name} runs {module}"


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^ +make (\w+)", (ROOT / "README.md").read_text(), flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
