"""`almanac checks draft`: a suite drafted from the profiles that audits kept, which Great Expectations then runs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from almanac.core.canonical import decode
from almanac.core.profile import FEW_VALUES, Profile
from almanac.spark import arrow, checks, rows
from almanac.store.objects import Objects
from tests.support.command_line import Asking
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]


@pytest.fixture
def ask(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asking:
    monkeypatch.setenv("ALMANAC_ROOT", world.shop.home.layout.root)
    return Asking(monkeypatch, capsys)


def drafted(text: str) -> list[Any]:
    names: dict[str, Any] = {}
    exec(compile(text, "drafted", "exec"), names)
    return list(names["checks"]()["features"])


def test_what_is_drafted_runs_passes_a_later_period_and_blocks_one_that_is_far_off(world: World, ask: Asking) -> None:
    before = world.shop.state()
    code, text, errors = ask("checks", "draft", "shop")
    assert (code, errors) == (0, "")
    home, expectations = world.shop.home, drafted(text)
    staged = home.receipts.read(world.standing_receipt("2017-07"))
    table = arrow.table(staged.outputs)
    far = table.set_column(table.column_names.index("visits"), "visits", pc.multiply(table.column("visits"), 100))

    good, bad = (
        checks.run(rows.of_table(world.shop.job.session, found), expectations, name)
        for name, found in (("later", table), ("far", far))
    )

    assert good.passed and good.checks == len(expectations) > 5
    assert any(found.startswith("expect_column_values_to_be_between(column='visits'") for found in bad.blocking)
    assert world.shop.state() == before


def test_the_page_about_checks_is_true(world: World, ask: Asking, repository: Path) -> None:
    text = (repository / "docs" / "checks.md").read_text()
    described, *_ = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (command,) = re.findall(r"^\$ almanac (.+)$", text, re.MULTILINE)
    names: dict[str, Any] = {}
    exec(compile(described, "checks", "exec"), names)

    assert [len(checks.section(names["checks"](), name)) for name in checks.SECTIONS] == [2, 1]
    assert ask(*command.replace("purchase_propensity", "shop").split())[0] == 0
    assert f"no more than {FEW_VALUES}" in text


def test_a_profile_is_what_the_published_rows_are(world: World, ask: Asking) -> None:
    (found,) = [decode(Profile, one) for one in ask.json("checks", "draft", "shop", "--periods", "1")["profiles"]]
    staged = world.shop.home.receipts.read(world.standing_receipt(found.period))
    rows = arrow.table(staged.outputs).to_pandas()

    assert found.rows == len(rows) and set(found.columns) == set(rows.columns) - {"customer"}
    for name, column in found.columns.items():
        assert column.nulls == rows[name].isna().sum()
        assert column.mean == pytest.approx(rows[name].mean())
        assert list(column.quantiles) == pytest.approx(
            rows[name].quantile([0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1]).tolist()
        )
        assert dict(column.values) == (counts if len(counts := rows[name].value_counts().to_dict()) <= 20 else {})


def test_as_many_periods_are_drafted_from_as_are_asked_for(ask: Asking) -> None:
    periods = [one["period"] for one in ask.json("checks", "draft", "shop", "--periods", "2")["profiles"]]
    assert len(periods) == 2 and periods == sorted(periods)
    assert len(ask.json("checks", "draft", "shop", "--periods", "99")["profiles"]) == 6


def test_a_pipeline_whose_features_were_never_audited_is_told_what_to_do(world: World, ask: Asking) -> None:
    home = world.shop.home
    for item in list(Objects().walk(home.layout.receipts("features", "audit"))):
        home.objects.delete(item.uri)

    code, text, errors = ask("checks", "draft", "shop")

    assert (code, text) == (1, "")
    assert (
        "No features of 'shop' have been audited yet, so there is no profile to draft checks from. Run shop_retrain once"
        in errors
    )
