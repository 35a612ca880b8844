"""What CONTRIBUTING.md and docs/formats.md name is there: files, records, make targets, and a test beside each of ten changes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGES = ("CONTRIBUTING.md", "docs/formats.md")
# A path of the repository in code, such as `plugins/almanac/core/late.py` or `tests/core`.
NAMED = re.compile(r"`((?:plugins|tests|docs|dags|spark_jobs|benchmarks|demo)/[\w./-]*|[\w.-]+\.(?:md|toml|yaml))`")
# A record beside the file that defines it: `Pin` in `plugins/almanac/core/pins.py`.
RECORD = re.compile(r"`(\w+)`,? (?:in |\()`(plugins/[\w/]+\.py)`")
CHANGE = re.compile(r"^\| (\d+)\. [^|]+ \| `([^`]+)` \| `([^`]+)` \| `([^`]+)` \|$", re.MULTILINE)


@pytest.fixture(scope="module", params=PAGES)
def page(request: pytest.FixtureRequest, repository: Path) -> str:
    return (repository / request.param).read_text()


def defined(repository: Path, path: str) -> set[str]:
    """The classes and constants of a file."""
    return set(re.findall(r"^(?:class )?(\w+)(?=\(|:| =)", (repository / path).read_text(), re.MULTILINE))


def test_every_path_that_is_named_exists(page: str, repository: Path):
    paths = set(NAMED.findall(page))
    assert len(paths) > 10
    assert sorted(path for path in paths if not (repository / path).exists()) == []


def test_every_record_is_defined_in_the_file_that_is_named_with_it(repository: Path):
    told = RECORD.findall((repository / "docs/formats.md").read_text())
    assert len(told) > 12
    assert [(name, path) for name, path in told if name not in defined(repository, path)] == []


def test_every_record_of_the_formats_is_a_class(repository: Path):
    text = re.sub(r"```.*?```", "", (repository / "docs/formats.md").read_text(), flags=re.DOTALL)
    named = set(re.findall(r"`([A-Z][a-z]+(?:[A-Z][a-z]+)*)`", text))
    files = [path.relative_to(repository) for path in (repository / "plugins/almanac").rglob("*.py")]
    known = set().union(*(defined(repository, str(path)) for path in files))
    assert named >= {"Order", "Receipt", "Entry", "Manifest", "Pin", "RollbackPlan"}
    assert sorted(named - known) == []


def test_each_of_the_ten_changes_names_two_files_and_a_test(repository: Path):
    changes = CHANGE.findall((repository / "CONTRIBUTING.md").read_text())
    assert [int(number) for number, *_ in changes] == list(range(1, 11))
    for _, first, second, test in changes:
        assert first != second
        assert first.startswith("plugins/almanac/") and second.startswith("plugins/almanac/")
        assert test.startswith("tests/")
        assert all((repository / path).is_file() for path in (first, second, test))


def test_every_function_that_the_ten_changes_name_is_in_a_file_that_they_name(repository: Path):
    text = (repository / "CONTRIBUTING.md").read_text()
    section = text[text.index("## Ten changes") : text.index("## Decisions")]
    code = "\n".join((repository / path).read_text() for path in set(NAMED.findall(section)) if path.endswith(".py"))
    code += "\n".join(path.read_text() for path in (repository / "plugins/almanac/store").glob("*.py"))
    names = set(re.findall(r"`(?:\w+\.)?([A-Za-z_]{4,})`", section)) - {"explain"}
    assert sorted(name for name in names if not re.search(rf"\b{name}\b", code)) == []


def test_every_make_target_exists(repository: Path):
    rules = re.findall(r"^([a-z-]+):", (repository / "Makefile").read_text(), re.MULTILINE)
    used = set(re.findall(r"(?:`|^    )make ([a-z-]+)", (repository / "CONTRIBUTING.md").read_text(), re.MULTILINE))
    assert used and used <= set(rules)
