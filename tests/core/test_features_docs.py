"""docs/features.md is true: its Python runs, and its table lists every function."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from almanac import FeatureGroup
from almanac.core.aggregates import OF_COLUMNS, OF_EVENTS, ZERO
from almanac.core.entity import check_entity
from almanac.core.pipeline import WRITTEN


def test_the_groups_are_described_as_shown_and_every_function_is_explained(repository: Path) -> None:
    text = (repository / "docs" / "features.md").read_text()
    written, described, entity = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(written, "written", "exec"), {"FeatureGroup": FeatureGroup})
    exec(compile(described, "described", "exec"), names)
    exec(compile(entity, "entity", "exec"), names)
    check_entity(names["entity"], WRITTEN)

    rows = re.findall(r"^\| (`.*?`) \| .*? \| (0|null) \|$", text, re.MULTILINE)
    told = {name: empty == "0" for names, empty in rows for name in re.findall(r"`(\w+)`", names)}
    assert told == {name: name in ZERO for name in (*OF_EVENTS, *OF_COLUMNS)}
