"""Labels that are not 0 and 1 through all steps: classes and values are trained, compared, promoted and scored."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from almanac import Gate, Label, Slice
from almanac.core.gate import Verdict
from almanac.core.receipts import Receipt, RunInfo
from almanac.core.target import MULTICLASS, REGRESSION
from almanac.model import comparison, loading, training
from almanac.runs import publish
from tests.support.command_line import Asking
from tests.support.shop import Shop

pytestmark = [pytest.mark.store, pytest.mark.spark]

BINARY_LABEL = 'visits.select("customer").distinct().withColumn("label", F.lit(1))'
OFTEN = 'F.when(F.count("*") > 1, "often").otherwise("once").alias("label")'
KINDS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    MULTICLASS: (
        {
            "label": {"kind": MULTICLASS, "classes": ("never", "once", "often"), "absent": "never"},
            "gate": Gate(
                metric="roc_auc_ovr", min_gain=-0.9, confidence=0.9, slices=(Slice(by="band", floor=0, minimum_rows=30),)
            ),
        },
        {BINARY_LABEL: f'visits.groupBy("customer").agg({OFTEN})'},
    ),
    REGRESSION: (
        {
            "label": {"kind": REGRESSION, "absent": 0},
            "gate": Gate(metric="mae", min_gain=-1e6, confidence=0.9, slices=(Slice(by="band", floor=1e6, minimum_rows=30),)),
        },
        {
            BINARY_LABEL: 'visits.groupBy("customer").agg(F.sum("amount").alias("label"))',
            "LogisticRegression": "Ridge",
            "DecisionTreeClassifier": "DecisionTreeRegressor",
        },
    ),
}


@dataclass(frozen=True)
class Trained:
    """A shop with a version in force, and the gate's decision on the next one."""

    shop: Shop
    old: str
    new: str
    decided: Receipt

    def rows(self, version: str, name: str) -> pd.DataFrame:
        home = self.shop.home
        return pq.read_table(io.BytesIO(home.versions.file(home.versions.read(version).files[name]))).to_pandas()


@pytest.fixture(scope="module", params=list(KINDS))
def trained(store: object, spark: object, request: pytest.FixtureRequest) -> Iterator[Trained]:
    described, replaced = KINDS[request.param]
    shop = Shop.open(f"s3://almanac/{uuid.uuid4().hex}", spark)
    label = Label("returns", reads=("visits",), horizon=timedelta(days=30), **described["label"])
    shop.describe(label=label, gate=described["gate"])
    shop.code(**replaced)
    old = shop.retrain("2017-06")
    new = shop.train("2017-07")
    yield Trained(shop, old, new, shop.gate("2017-07", new))


def test_a_version_says_what_it_predicts_and_keeps_its_holdout_with_a_column_for_each_score(trained: Trained) -> None:
    target = trained.shop.pipeline.label.target
    manifest = trained.shop.home.versions.read(trained.old)
    model = loading.open_model(manifest.bundle).model

    assert manifest.target == manifest.bundle.target == target
    assert list(manifest.metrics) == sorted(target.metrics)
    assert trained.shop.home.log().in_force("2017-07") == trained.old
    for name in ("holdout.parquet", "golden.parquet"):
        rows = trained.rows(trained.old, name)
        assert [column for column in rows.columns if column.startswith("score")] == list(target.columns)
        scores = training.predict(model, rows[list(manifest.features)], target)
        assert np.array_equal(training.scores_of(rows, target), scores)
        assert len(np.unique(scores)) > 3
    report = json.loads(trained.shop.home.versions.file(manifest.files["report.json"]))
    assert report["holdout"]["metrics"] == pytest.approx(dict(manifest.metrics))
    assert ("residuals" in report) == (target.kind == REGRESSION)


def test_the_gate_compares_two_versions_by_a_metric_of_the_kind(trained: Trained) -> None:
    shop, target, gate = trained.shop, trained.shop.pipeline.label.target, trained.shop.pipeline.gate
    compared, rows = trained.decided.facts["comparison"], trained.rows(trained.new, "holdout.parquet")
    old = shop.home.versions.read(trained.old)
    theirs = training.predict(loading.open_model(old.bundle).model, rows[list(old.features)], target)
    ours = training.scores_of(rows, target)

    assert (compared["champion_version"], compared["obstacle"]) == (trained.old, "")
    assert compared["candidate"] == pytest.approx(training.metrics(rows["label"], ours, target))
    assert compared["champion"] == pytest.approx(training.metrics(rows["label"], theirs, target))
    assert compared["bound"]["gain_at"] == pytest.approx(comparison.bound(rows["label"], ours, theirs, gate, target).gain_at)
    (judged,) = (item for item in compared["slices"] if item["figure"] is not None)
    part = rows[rows["band"].isna()]
    wanted = training.metrics(part["label"], training.scores_of(part, target), target)[gate.metric]
    assert (judged["value"], judged["figure"]) == ("null", pytest.approx(wanted))
    assert trained.decided.passed
    assert trained.decided.findings[0].startswith(f"{gate.metric} reaches the slice's floor")


def test_the_command_line_shows_the_first_metrics_of_the_kind(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ALMANAC_ROOT", trained.shop.home.layout.root)
    ask, metrics = Asking(monkeypatch, capsys), dict(trained.shop.home.versions.read(trained.old).metrics)
    first, second = trained.shop.pipeline.label.target.metrics[:2]

    code, output, _ = ask("versions", "shop")

    heads, row, *_ = output.strip().splitlines()
    assert code == 0
    assert heads.split()[:5] == ["version", "period", "estimator", first, second]
    assert row.split()[3:5] == [f"{metrics[first]:.4f}", f"{metrics[second]:.4f}"]
    code, output, _ = ask("show", "shop", trained.old)
    assert code == 0 and f"{first} {metrics[first]:.4f}" in output


@pytest.mark.parametrize("trained", [MULTICLASS], indirect=True)
def test_a_version_of_other_classes_is_not_comparable_with_the_one_in_force(trained: Trained) -> None:
    shop = replace(trained.shop)
    label = shop.pipeline.label
    shop.describe(label=replace(label, classes=label.classes[::-1]), gate=shop.pipeline.gate)
    candidate = shop.train("2017-07")

    decided = shop.gate("2017-07", candidate)

    assert candidate != trained.new
    assert decided.facts["decision"]["verdict"] == Verdict.NOT_COMPARABLE.value
    assert decided.findings[0] == (
        f"{trained.old} in force predicts a multiclass label (never, once, often), {candidate} predicts a multiclass label "
        "(often, once, never), so the two are not comparable"
    )


def test_a_promoted_version_writes_a_column_for_each_score(
    trained: Trained, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop, target = trained.shop, trained.shop.pipeline.label.target
    publish.champion(shop.home, shop.pipeline, trained.decided, RunInfo())
    shop.score("2017-08")

    table = shop.home.predictions
    (path,) = table.visible()["2017-08"].paths
    found = pq.read_table(io.BytesIO(shop.home.objects.get(f"{table.uri}/{path}"))).to_pandas()
    manifest = shop.home.versions.read(trained.new)
    features = shop.home.features(manifest.definition)
    (own,) = features.visible()["2017-08"].paths
    rows = pq.read_table(io.BytesIO(shop.home.objects.get(f"{features.uri}/{own}"))).to_pandas()
    wanted = training.predict(loading.open_model(manifest.bundle).model, rows[list(manifest.features)], target)

    assert [column for column in found.columns if column.startswith("score")] == list(target.columns)
    assert list(found["customer"]) == list(rows["customer"])
    assert training.scores_of(found, target) == pytest.approx(wanted, rel=1e-5, abs=1e-5)
    assert set(found["model_version"]) == {trained.new}

    monkeypatch.setenv("ALMANAC_ROOT", shop.home.layout.root)
    row = found.iloc[0]
    code, output, _ = Asking(monkeypatch, capsys)("explain", "shop", "2017-08", "--entity", str(row["customer"]))
    scores = ", ".join(f"{name.replace('_', ' ')} {row[name]:.6f}" for name in target.columns)
    assert code == 0 and f"customer {row['customer']}: {scores} by {trained.new}" in output
