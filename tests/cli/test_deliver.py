"""`almanac deliver`: what it lists, what it does, and how it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from almanac.core.canonical import dumps
from almanac.deliveries import places
from tests.support.command_line import Asking
from tests.support.scores import Scores, Target

pytestmark = pytest.mark.store


@pytest.fixture
def ask(scores: Scores, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asking:
    monkeypatch.setenv("ALMANAC_ROOT", scores.home.layout.root)
    return Asking(monkeypatch, capsys)


@pytest.fixture
def described(scores: Scores, on_s3: Target, in_postgres: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipeline that was delivered before, to a folder and to a database; one period is published and not delivered."""
    monkeypatch.setenv("ALMANAC_DELIVERY_WAREHOUSE", in_postgres.address)
    kept = replace(scores.described, deliveries=(on_s3.delivery, in_postgres.delivery))
    places.keep_described(scores.home, kept)
    scores.publish("2017-06")
    on_s3.deliver(scores)
    scores.publish("2017-07", customers=3)


def test_a_dry_run_lists_what_is_outstanding_and_writes_nothing(
    scores: Scores, on_s3: Target, in_postgres: Target, described: None, ask: Asking
) -> None:
    before = on_s3.state()
    code, output, errors = ask("deliver", "shop", "--dry-run")

    assert (code, errors) == (0, "")
    lines = [line.split() for line in output.splitlines()]
    assert lines == [
        ["delivery", "outstanding", "periods"],
        ["lake", "1", "2017-07"],
        ["warehouse", "2", "2017-06,", "2017-07"],
    ]
    assert ask.json("deliver", "shop", "--dry-run", "--delivery", "lake") == {"lake": ["2017-07"]}
    assert (on_s3.state(), in_postgres.seen()) == (before, [])


def test_it_brings_all_deliveries_up_to_date_and_tells_what_it_did(
    scores: Scores, on_s3: Target, in_postgres: Target, described: None, ask: Asking
) -> None:
    code, output, errors = ask("deliver", "shop")

    assert (code, errors) == (0, "")
    order = scores.home.predictions.visible()["2017-07"].order
    lines = [line.split() for line in output.splitlines()]
    assert lines[0] == ["delivery", "period", "rows", "order", "replaced"]
    assert lines[1] == ["lake", "2017-07", "3", order[:12]]
    assert [line[:3] for line in lines[2:4]] == [["warehouse", "2017-06", "4"], ["warehouse", "2017-07", "3"]]
    assert output.rstrip().endswith("delivery lake: 2017-07 (3 rows)\ndelivery warehouse: 2017-06 (4 rows), 2017-07 (3 rows)")
    assert on_s3.seen() == in_postgres.seen() == scores.seen()
    assert "delivery lake: nothing to do\ndelivery warehouse: nothing to do" in ask("deliver", "shop")[1]
    assert ask("deliver", "shop", "--dry-run")[1].count("up to date") == 2


def test_one_delivery_alone_leaves_the_others_and_scripts_get_what_was_applied(
    scores: Scores, on_s3: Target, in_postgres: Target, described: None, ask: Asking
) -> None:
    new = scores.home.predictions.visible()["2017-07"].order
    old = scores.home.predictions.visible()["2017-06"].order
    scores.publish("2017-06")

    (done,) = ask.json("deliver", "shop", "--delivery", "lake")
    assert done["delivery"] == "lake"
    assert [(one["period"], one["rows"]) for one in done["applied"]] == [("2017-06", 4), ("2017-07", 3)]
    assert done["applied"][1] == {"period": "2017-07", "fence": 1, "order": new, "rows": 3, "replaced": ""}
    assert done["applied"][0]["replaced"] == old
    assert in_postgres.seen() == []


def test_an_unknown_delivery_is_refused(described: None, ask: Asking) -> None:
    code, _, errors = ask("deliver", "shop", "--delivery", "pond")

    assert code == 1
    assert errors == "almanac: Delivery 'pond' is unknown (there are: lake, warehouse). Name one.\n"


def test_a_database_whose_address_is_not_set_is_refused(described: None, ask: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ALMANAC_DELIVERY_WAREHOUSE")
    code, _, errors = ask("deliver", "shop")

    assert code == 1
    assert errors == (
        "almanac: ALMANAC_DELIVERY_WAREHOUSE: expected the address of the database of delivery 'warehouse', such as "
        "postgresql://user:password@host:5432/database, got nothing. Set it, or let the DAG deliver, which uses Airflow's "
        "connection.\n"
    )


def test_a_pipeline_whose_deliveries_nobody_knows_is_refused(scores: Scores, ask: Asking) -> None:
    scores.publish("2017-06")
    code, _, errors = ask("deliver", "shop")

    assert code == 1
    assert errors == (
        "almanac: No deliveries of pipeline 'shop' are recorded. Describe them in its DAG file, Pipeline(deliveries=(...)), and "
        "run its score DAG once; after that this command finds them.\n"
    )


def test_what_is_kept_follows_the_description(scores: Scores, on_s3: Target) -> None:
    home, first = scores.home, replace(scores.described, deliveries=(on_s3.delivery,))
    assert places.described(home) is None
    places.keep_described(home, first)
    assert places.described(home) == first
    places.keep_described(home, scores.described)
    assert places.described(home) == scores.described

    before = next(home.objects.walk(home.layout.deliveries))
    places.keep_described(home, scores.described)
    assert next(home.objects.walk(home.layout.deliveries)) == before
    assert home.objects.get(home.layout.description(first.digest)) == dumps(first)
