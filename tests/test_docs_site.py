"""The documentation site builds, and its reference has everything that a user imports."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import almanac


@pytest.mark.slow
def test_the_site_builds_in_strict_mode_and_loads_nothing_from_elsewhere(repository: Path, tmp_path: Path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=repository, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|iframe)[^>]* src=\"?(https?:[^\" >]+)", page.read_text())
        loaded += re.findall(r"<link[^>]* rel=\"?(?:stylesheet|preconnect)\"?[^>]* href=\"?(https?:[^\" >]+)", page.read_text())
        assert loaded == [], page


def test_the_reference_has_everything_that_a_description_is_made_of(repository: Path):
    listed = re.findall(r"^::: almanac\.(\w+)$", (repository / "docs/reference/description.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(almanac.__all__)


def test_the_glossary_is_in_alphabetical_order(repository: Path):
    words = re.findall(r"^\*\*(.+?)\.?\*\*", (repository / "docs/glossary.md").read_text(), re.MULTILINE)
    assert len(words) > 40
    assert words == sorted(words, key=str.casefold)
