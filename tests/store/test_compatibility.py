"""What a run writes fits the predictions that readers see: another key or another label is refused before anything is built."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import deltalake
import pyarrow as pa
import pytest

from almanac import Label, Scoring
from almanac.core.receipts import RunInfo
from almanac.core.target import MULTICLASS, REGRESSION
from almanac.errors import DescriptionError
from almanac.runs import feature_orders, plan, promotions, rollback
from almanac.store.tables import Table
from tests.support.shop import MODULE, MONTHS, Shop, people, visits, zipped
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

SHOWN = Table.shown
OTHER = zipped(MODULE.read_text() + "\n# another definition\n")


def lettered(shop: Shop) -> None:
    """Customers are called C1 from now on, in every source."""
    for month in MONTHS:
        rows = visits(month)
        shop.put("visits", f"{month:%Y-%m}.parquet", rows.set_column(0, "customer", named(rows["customer"])))
    shop.put("people", "all.parquet", people().set_column(0, "customer", named(people()["customer"])))


def named(keys: pa.ChunkedArray) -> pa.Array:
    return pa.array([f"C{key}" for key in keys.to_pylist()])


def retrain(shop: Shop, period: str = "2017-07") -> object:
    return plan.retrain(shop.home, shop.pipeline, shop.pipeline.period(period), shop.module)


def label(**described: object) -> Label:
    return Label("returns", reads=("visits",), horizon=timedelta(days=30), **described)  # type: ignore[arg-type]


def test_keys_that_become_text_are_refused_by_every_job_before_it_writes(world: World) -> None:
    shop = world.shop
    lettered(shop)
    shop.module = OTHER
    shop.keep()
    before = shop.state()
    planned = retrain(shop)
    placed = feature_orders.groups(shop.home, planned, shop.pin(planned), "habits")[0]  # type: ignore[arg-type]

    refused = shop.attempt(placed)

    assert not refused.passed and refused.outputs == ()
    assert refused.findings == (
        "Function 'habits' of shop 2017-04: column 'customer' is string (text), expected whole numbers, as in the visible "
        "predictions of shop. Restore the key's type in the source or the function. Describe the change in a pipeline with "
        "another name; it gets its own tables.",
    )
    assert shop.state() == before


@pytest.mark.parametrize("asked", ["score", "retrain"])
def test_features_of_another_key_than_the_predictions_are_refused_by_the_plan(
    world: World, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    """Where features of the definition are there, their table tells the key before anything runs."""
    shop, predictions = world.shop, world.shop.home.predictions.uri
    text = pa.schema([("customer", "string"), ("as_of", pa.timestamp("us", "UTC")), ("score", "float64")])
    monkeypatch.setattr(Table, "shown", lambda table: text if table.uri == predictions else SHOWN(table))

    with pytest.raises(DescriptionError, match=r"column 'customer' is int64 \(whole numbers\), expected text"):
        retrain(shop) if asked == "retrain" else plan.score(shop.home, shop.pipeline.period("2017-08"))


def test_another_name_of_the_key_is_refused_by_the_plan(world: World) -> None:
    shop = world.shop
    shop.describe(entity="client")

    with pytest.raises(DescriptionError) as refused:
        retrain(shop)

    key = "Pipeline.entity: expected the key of the visible predictions of 2017-07, 'customer' (columns "
    assert str(refused.value).startswith(key)
    assert "got 'client'" in str(refused.value)


def test_a_label_whose_score_would_mean_something_else_is_refused_by_the_plan(world: World) -> None:
    shop = world.shop
    gate = replace(shop.pipeline.gate, metric="mae", floor=None)
    shop.describe(label=label(kind=REGRESSION, absent=0), gate=gate)

    with pytest.raises(DescriptionError) as refused:
        retrain(shop)

    assert str(refused.value) == (
        f"Label.kind: expected 'binary', as in version {world.old}, whose predictions of 2017-07 are visible; got 'regression'. "
        "Column score would have two meanings. Describe the change in a pipeline with another name; it gets its own tables."
    )


def test_a_label_of_classes_writes_columns_of_its_own_which_the_plan_lets_through(world: World) -> None:
    shop = world.shop
    gate = replace(shop.pipeline.gate, metric="log_loss", floor=None)
    shop.describe(label=label(kind=MULTICLASS, classes=("never", "once", "often"), absent="never"), gate=gate)

    assert retrain(shop).holdout == "2017-06"  # type: ignore[attr-defined]


def test_a_feature_that_is_kept_later_is_seen_by_readers_outside_also_after_a_rollback(world: World) -> None:
    shop = world.shop
    shop.describe(scoring=Scoring(keep=("visits",)))
    shop.module = OTHER
    shop.keep()
    keeping = shop.train("2017-07")
    shop.promote(keeping)
    shop.score("2017-08")

    def seen() -> dict[str, set[bool]]:
        options = {"AWS_ALLOW_HTTP": "true"}
        rows = deltalake.DeltaTable(shop.home.predictions.uri, storage_options=options).to_pyarrow_table().to_pylist()
        assert len(rows) == len(shop.scores())
        return {period: {row["visits"] is None for row in rows if row["period"] == period} for period in ("2017-07", "2017-08")}

    assert seen() == {"2017-07": {True}, "2017-08": {False}}
    shop.roll_back()
    assert seen() == {"2017-07": {True}, "2017-08": {True}}


def test_a_rollback_to_a_version_that_does_not_fit_is_refused_before_the_log_moves(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop = world.shop
    shop.promote(world.new)
    shop.score("2017-08")

    def unfit(*given: object, **more: object) -> None:
        assert more == {"without": [world.new]}
        raise DescriptionError("does not fit")

    monkeypatch.setattr("almanac.store.compatibility.check", unfit)
    with pytest.raises(DescriptionError, match="does not fit"):
        promotions.rollback(shop.home, rollback.planned(shop.home, shop.pipeline, reason="bad", run="one"), RunInfo())
    assert shop.home.log().position == 2
    assert list(shop.home.objects.walk(shop.home.layout.rollbacks)) == []
