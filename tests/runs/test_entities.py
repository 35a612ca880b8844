"""An entity of two columns through every step: features, a version, scores, a rollback, a delivery, and its explanation."""

from __future__ import annotations

import io
import uuid
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from almanac import Sampling
from almanac.core.deliveries import PostgresDelivery
from almanac.core.receipts import RunInfo
from almanac.deliveries.projection import deliver
from almanac.errors import DeliveryError, DescriptionError
from almanac.jobs import champion, trial
from almanac.project import Project
from almanac.runs import plan
from tests.support import branches
from tests.support.branches import KEYS
from tests.support.command_line import Asking
from tests.support.shop import MODULE, MONTHS, Memory, Shop

pytestmark = [pytest.mark.store, pytest.mark.spark]

DELIVERY = PostgresDelivery("scores", table="scores")


@dataclass(frozen=True)
class Branches:
    """Two shops of the same customers in the same branches.

    Args:
        two: an entity is two columns. `first` scored 2017-07, `second` 2017-08; both are promoted.
        one: an entity is one text. Its first version scored 2017-07.
    """

    two: Shop
    one: Shop
    first: str
    second: str
    memory: Memory


@pytest.fixture(scope="module")
def made(store: object, spark: object) -> Branches:
    two, one = (branches.open_at(f"s3://almanac/{uuid.uuid4().hex}", spark, entity) for entity in (KEYS, "customer"))
    first = two.retrain("2017-06")
    two.score("2017-07")
    second = two.retrain("2017-07")
    two.score("2017-08")
    one.retrain("2017-06")
    one.score("2017-07")
    return Branches(two, one, first, second, two.remember())


@pytest.fixture
def world(made: Branches) -> Iterator[Branches]:
    yield replace(made, two=replace(made.two))
    made.two.restore(made.memory)


@pytest.fixture
def ask(made: Branches, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asking:
    monkeypatch.setenv("ALMANAC_ROOT", made.two.home.layout.root)
    return Asking(monkeypatch, capsys)


def read(shop: Shop, table: str, paths: tuple[str, ...]) -> pd.DataFrame:
    """The rows of a visible period, sorted by their first columns, the keys."""
    files = [pq.read_table(io.BytesIO(shop.home.objects.get(f"{table}/{path}"))).to_pandas() for path in paths]
    rows = pd.concat(files)
    return rows.sort_values(list(shop.pipeline.keys), ignore_index=True)


def features_of(shop: Shop, period: str) -> pd.DataFrame:
    table = shop.home.features(shop.home.versions.read(shop.home.log().entries[0].version).definition)
    return read(shop, table.uri, table.visible()[period].paths)


def predictions_of(shop: Shop, period: str) -> pd.DataFrame:
    return read(shop, shop.home.predictions.uri, shop.home.predictions.visible()[period].paths)


def as_one(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of two keys with the one key of the other shop in their place."""
    key = rows["customer"].astype(str) + "/" + rows["branch"]
    return rows.drop(columns="branch").assign(customer=key)


def test_the_keys_are_the_first_columns_of_features_and_predictions(made: Branches) -> None:
    assert list(features_of(made.two, "2017-06").columns[:2]) == ["customer", "branch"]
    predictions = predictions_of(made.two, "2017-07")
    assert list(predictions.columns) == ["customer", "branch", "as_of", "score", "model_version", "order"]
    assert not predictions.duplicated(["customer", "branch"]).any()
    assert predictions.duplicated("customer").any() and predictions.duplicated("branch").any()
    manifest = made.two.home.versions.read(made.first)
    assert (manifest.entity, manifest.keys) == (KEYS, KEYS)


def test_entities_that_share_a_column_do_not_mix(made: Branches) -> None:
    as_of = datetime(2017, 7, 1)
    rows = pd.concat(branches.visits(month).to_pandas() for month in MONTHS)
    seen = rows[(rows["at"] >= as_of - timedelta(days=90)) & (rows["at"] < as_of)]
    near = seen[seen["at"] >= as_of - timedelta(days=30)]
    wanted = seen.groupby(list(KEYS)).agg(visits=("at", "size"), amount=("amount", "sum"))
    sums = near.groupby(list(KEYS))["amount"].agg(["size", "sum", "nunique"])
    wanted = wanted.join(sums.set_axis(["spending_count_30d", "spending_amount_sum_30d", "spending_amount_distinct_30d"], axis=1))
    wanted = wanted.fillna(0).reset_index().merge(branches.people().to_pandas(), on=list(KEYS), how="left")

    found = features_of(made.two, "2017-06")

    pd.testing.assert_frame_equal(found[wanted.columns], wanted, check_dtype=False)


def test_two_columns_give_the_features_and_scores_of_one_that_joins_them(made: Branches) -> None:
    for period in ("2017-03", "2017-05", "2017-07"):
        wanted = features_of(made.one, period)
        pd.testing.assert_frame_equal(as_one(features_of(made.two, period))[wanted.columns], wanted)
    theirs = made.one.home.versions.read(made.one.home.log().entries[0].version)
    ours = made.two.home.versions.read(made.first)
    assert (ours.estimator, ours.metrics) == (theirs.estimator, theirs.metrics)
    scores = predictions_of(made.one, "2017-07")[["customer", "score"]]
    pd.testing.assert_frame_equal(as_one(predictions_of(made.two, "2017-07"))[["customer", "score"]], scores)


def test_a_second_retrain_finds_the_partial_sums_and_features_of_the_first(world: Branches) -> None:
    again = plan.retrain(world.two.home, world.two.pipeline, world.two.pipeline.period("2017-07"), world.two.module)

    assert (again.build, world.two.train("2017-07")) == ((), world.second)


def test_predictions_reach_a_table_of_postgres_whose_primary_key_has_all_columns(world: Branches, postgres: Path) -> None:
    with _database(postgres) as (address, connection):
        done = deliver(world.two.home, world.two.pipeline, DELIVERY, address, RunInfo(run="test"))
        assert [one.period for one in done.applied] == ["2017-07", "2017-08"]
        keys = connection.execute(
            "SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey) "
            "WHERE indrelid = 'scores'::regclass AND indisprimary ORDER BY array_position(indkey::int[], attnum::int)"
        ).fetchall()
        assert keys == [("period",), ("customer",), ("branch",)]
        assert _delivered(connection, "2017-08") == _scores(world.two, "2017-08")

        world.two.roll_back()
        done = deliver(world.two.home, world.two.pipeline, DELIVERY, address, RunInfo(run="test"))

        assert [one.period for one in done.applied] == ["2017-08"]
        assert _delivered(connection, "2017-08") == _scores(world.two, "2017-08")
        versions = connection.execute("SELECT DISTINCT model_version FROM scores").fetchall()
        assert versions == [(world.first,)]


def test_a_table_without_a_column_of_the_entity_is_refused(made: Branches, postgres: Path) -> None:
    with _database(postgres) as (address, connection):
        connection.execute("CREATE TABLE scores (period text, customer bigint)")
        with pytest.raises(DeliveryError) as refused:
            deliver(made.two.home, made.two.pipeline, DELIVERY, address, RunInfo(run="test"))
    told = "table scores has no column branch (it has: period, customer), but rows are identified by period, customer and branch."
    assert told in str(refused.value)


def _delivered(connection: psycopg.Connection, period: str) -> list[tuple[int, str, float]]:
    query = "SELECT customer, branch, score FROM scores WHERE period = %s ORDER BY customer, branch"
    return connection.execute(query, [period]).fetchall()


def _scores(shop: Shop, period: str) -> list[tuple[int, str, float]]:
    rows = predictions_of(shop, period)
    return list(rows[["customer", "branch", "score"]].itertuples(index=False, name=None))


class _database:
    """A database of its own; gives its address and a connection."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._name = folder, f"branches_{uuid.uuid4().hex[:8]}"

    def __enter__(self) -> tuple[str, psycopg.Connection]:
        with psycopg.connect(host=str(self._folder), user="postgres", dbname="postgres", autocommit=True) as one:
            one.execute(f"CREATE DATABASE {self._name}")
        address = f"postgresql://postgres@/{self._name}?host={self._folder}"
        self._connection = psycopg.connect(address, autocommit=True)
        return address, self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.close()


def test_explain_shows_the_row_of_an_entity_by_all_its_columns(made: Branches, ask: Asking) -> None:
    customer, branch, score = _scores(made.two, "2017-07")[4]
    keys = ("--entity", f"branch={branch}", "--entity", f"customer={customer}")
    code, output, _ = ask("explain", "shop", "2017-07", *keys)

    assert code == 0
    assert f"├── customer {customer}, branch {branch}: score {score:.6f} by {made.first}\n" in output
    row = ask.json("explain", "shop", "2017-07", *keys)["children"][0]
    assert {name: row["facts"][name] for name in ("customer", "branch", "score")} == {
        "customer": customer,
        "branch": branch,
        "score": score,
    }


def test_an_entity_is_refused_where_a_column_is_missing_or_unknown_or_no_row_has_both(made: Branches, ask: Asking) -> None:
    for given, told in (
        (["customer=104"], "--entity: expected customer and branch, which together name an entity; branch is missing."),
        (["104"], "expected customer and branch, which together name an entity; got '104'. Write --entity customer=... --ent"),
        (["shop=1", "branch=west"], "which together name an entity; got the column 'shop'."),
        (["customer=1", "customer=2"], "--entity: got customer twice ('1' and '2'), expected it once."),
        (["customer=104", "branch=moon"], "Predictions of 2017-07 have no customer '104', branch 'moon' ("),
        (["customer=ann", "branch=west"], "rows; customer is int64, and 'ann' is not)."),
    ):
        code, output, error = ask("explain", "shop", "2017-07", *(part for one in given for part in ("--entity", one)))
        assert (code, output) == (1, "")
        assert told in error, error


def test_rows_that_lack_one_of_the_columns_have_no_entity(world: Branches) -> None:
    rows = branches.visits(MONTHS[4]).to_pylist()
    rows += [{**rows[0], "branch": None}, {**rows[0], "customer": None}, {**rows[0], "customer": None, "branch": None}]
    world.two.put("visits", "2017-05.parquet", pa.Table.from_pylist(rows, branches.visits(MONTHS[4]).schema))
    before = features_of(world.two, "2017-05")
    planned = plan.retrain(
        world.two.home, world.two.pipeline, world.two.pipeline.period("2017-06"), world.two.module, refresh=True
    )
    published = world.two.build(planned, world.two.pin(planned))

    staged = world.two.home.receipts.read(published["2017-05"].links["staged"])
    assert staged.findings == (
        "Population 'customers' of 2017-05 returned 3 rows without customer or branch, which are ignored.",
    )
    spending = world.two.home.receipts.read(staged.links["part.spending"])
    (finding,) = spending.findings
    assert finding.startswith("Source 'visits' has 3 events without customer or branch in the files of these windows")
    pd.testing.assert_frame_equal(features_of(world.two, "2017-05"), before)


def test_sampled_rows_are_drawn_by_all_columns(world: Branches) -> None:
    window = replace(world.two.pipeline.window, sampling=Sampling(60))
    world.two.pipeline = branches.pipeline(world.two.landing, window=window)
    version = world.two.train("2017-07")

    trained = world.two.home.versions.read(version)
    assert "60 of " in " ".join(world.two.home.receipts.read(trained.receipt).findings)


def test_a_version_that_predicts_for_another_entity_is_not_compared(made: Branches) -> None:
    candidate = made.two.home.versions.read(made.second)
    old = replace(made.two.home.versions.read(made.first), entity="customer")

    told = champion._obstacle(old, candidate)

    assert told == (
        f"{made.first} in force predicts for customer, {made.second} for customer and branch, so the two are not comparable"
    )


def test_other_columns_than_those_of_the_visible_predictions_are_refused_by_the_plan(world: Branches) -> None:
    for entity, got in (("customer", "'customer'"), (("customer", "branch", "till"), "'customer', 'branch' and 'till'")):
        described = branches.pipeline(world.two.landing, entity)
        with pytest.raises(DescriptionError) as refused:
            plan.retrain(world.two.home, described, described.period("2017-08"), world.two.module)
        assert str(refused.value).startswith(
            "Pipeline.entity: expected the key of the visible predictions of 2017-08, 'customer' and 'branch' (columns customer, "
            "branch, as_of,"
        )
        assert f"; got {got}. Describe the change in a pipeline with another name" in str(refused.value)


DAG = """\
from datetime import timedelta

from almanac.airflow import build_dags
from tests.support import branches

build_dags(branches.pipeline("LANDING"))
"""


def test_a_trial_works_on_a_sample_of_entities_of_two_columns(
    made: Branches, spark: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trial, "ENTITIES", 60)
    monkeypatch.delenv("ALMANAC_SPARK_JOBS", raising=False)
    module = MODULE.read_text().replace('"customer"', '"customer", "branch"')
    for folder, text in (("dags", DAG.replace("LANDING", made.two.landing)), ("spark_jobs", module)):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "shop.py").write_text(text)
    session = Future[Any]()
    session.set_result(spark)

    trial.run(Project(tmp_path), "shop", "2017-08", whole=False, session=session, told=trial.Told())

    output = capsys.readouterr().out
    assert "; a sample of " in output and " of the entities." in output
    assert "holdout 2017-07: roc_auc 0." in output
