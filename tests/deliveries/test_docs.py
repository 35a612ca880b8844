"""docs/deliveries.md is true: its code runs, and what it says of names and commands is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from almanac.core.deliveries import ParquetDelivery
from tests.support.scores import Ask, Scores, Target
from tests.support.shop import pipeline


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    return (repository / "docs" / "deliveries.md").read_text()


def run(text: str, name: str) -> dict[str, Any]:
    found = re.search(rf"<!-- test: {name} -->\n```python\n(.*?)```", text, re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {}
    exec(compile(found.group(1), name, "exec"), names)
    return names


def test_the_description_is_one() -> None:
    text = (Path(__file__).parents[2] / "docs" / "deliveries.md").read_text()
    described = pipeline("s3://shop", deliveries=run(text, "description")["deliveries"])

    assert [one.name for one in described.deliveries] == ["warehouse", "lake"]


@pytest.mark.store
def test_the_reader_sees_exactly_what_was_delivered(text: str, scores: Scores, folder: Target) -> None:
    assert isinstance(folder.delivery, ParquetDelivery)
    scores.publish("2017-07", customers=6)
    folder.deliver(scores)
    scores.publish("2017-07", customers=5)
    folder.deliver(scores)
    read = run(text, "reader")["scores"](folder.delivery.uri, "2017-07")

    assert [("2017-07", row["customer"], row["order"]) for row in read.to_pylist()] == scores.seen()


@pytest.mark.store
def test_the_queries_of_the_notes_are_ones(text: str, scores: Scores, in_postgres: Target, ask: Ask) -> None:
    scores.publish("2017-07")
    in_postgres.deliver(scores)
    (select,) = re.findall(r"^    (SELECT .*;)$", text, re.MULTILINE)
    (update,) = re.findall(r"`(UPDATE [^`]*)`", text)

    order = scores.home.predictions.visible()["2017-07"].order
    assert [row[:4] for row in ask(select.replace("marketing.scores", "scores"))] == [("2017-07", order, 1, 4)]
    ask(" ".join(update.split()).replace("marketing.scores", "scores"))
    assert ask("SELECT source FROM almanac_deliveries") == [("s3://new-bucket/almanac/purchase_propensity/predictions",)]


def test_the_command_is_there(text: str) -> None:
    shown = re.findall(r"^\$ almanac (\w+) \S+ (--[a-z-]+)", text, re.MULTILINE)
    assert shown == [("deliver", "--dry-run"), ("deliver", "--delivery")]
    done = subprocess.run([sys.executable, "-m", "almanac", "deliver", "--help"], capture_output=True, text=True, check=True)

    assert all(option in done.stdout for _, option in shown)
    assert "Examples: almanac deliver" in done.stdout
