"""The gate at work: its policy on a real holdout, and versions that are compared, scored with and promoted only as published."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from almanac import Gate, Slice
from almanac.core.canonical import sealed, sha256
from almanac.core.gate import Verdict
from almanac.core.receipts import Output, PlacedOrder, Receipt, RunInfo, publish_order
from almanac.errors import NotAdmitted, Unsigned
from almanac.model import comparison, loading, training
from almanac.runs import orders, plan, publish
from almanac.store import overview
from tests.model.test_loading import Trap
from tests.store.test_signatures import key_pair
from tests.support.refusals import refusal, told
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

LENIENT = {"metric": "roc_auc", "min_gain": -0.9}


def decided(world: World, **policy: Any) -> Receipt:
    """What the gate says of `new` against `old` under a policy."""
    world.shop.describe(gate=Gate(**{**LENIENT, **policy}))
    return world.shop.gate("2017-07", world.new)


def compared(world: World, **policy: Any) -> PlacedOrder:
    """The order to compare `new` with `old`."""
    shop = world.shop
    shop.describe(gate=Gate(**{**LENIENT, **policy}))
    planned = plan.retrain(shop.home, shop.pipeline, shop.pipeline.period("2017-07"), shop.module)
    return orders.comparison(shop.home, shop.pipeline, planned, world.new)


def scored(world: World) -> PlacedOrder:
    """The order to score 2017-08 with `old`."""
    return orders.predictions(world.shop.home, plan.score(world.shop.home, world.shop.pipeline.period("2017-08")))


def holdout(world: World) -> pd.DataFrame:
    """The frozen holdout of `new`, with its scores and those of `old` beside them."""
    home = world.shop.home
    rows = pq.read_table(io.BytesIO(home.versions.file(home.versions.read(world.new).files["holdout.parquet"]))).to_pandas()
    old = home.versions.read(world.old)
    return rows.assign(old=training.predict(loading.open_model(old.bundle).model, rows[list(old.features)], old.target))


# The policy


def test_a_gate_with_a_confidence_decides_on_the_lower_bound_of_the_holdouts_rows(world: World) -> None:
    rows, gate = holdout(world), Gate(**LENIENT, confidence=0.9)
    wanted = comparison.bound(rows["label"], rows["score"], rows["old"], gate)

    lenient = decided(world, confidence=0.9)
    bound = lenient.facts["comparison"]["bound"]
    strict = decided(world, confidence=0.9, min_gain=bound["gain_at"] + 0.001)

    assert lenient.passed and not strict.passed
    assert bound["gain_at"] == pytest.approx(wanted.gain_at, abs=1e-12)
    assert (bound["resamples"], bound["rows"]) == (1000, len(rows))
    assert "non-inferiority with a margin of 0.9000 is shown" in lenient.findings[0]
    assert "is not shown" in strict.findings[0]


def test_slices_are_those_of_the_candidates_features_on_the_holdout(world: World) -> None:
    rows, part = holdout(world), Slice(by="band", floor=0.0, minimum_rows=8)

    found = decided(world, slices=(part,))

    figures = found.facts["comparison"]["slices"]
    assert found.passed
    assert sum(item["rows"] for item in figures) == len(rows)
    assert figures[-1] == {
        "by": "band",
        "value": "null",
        "rows": int(rows["band"].isna().sum()),
        "figure": training.metrics(*(rows.loc[rows["band"].isna(), name] for name in ("label", "score")))["roc_auc"],
        "obstacle": "",
    }
    assert [item["value"] for item in figures[:-1]] == ["0", "1", "2", "3", "4"]
    assert {item["obstacle"] for item in figures[:-1] if item["rows"] < 8} >= {f"{figures[0]['rows']} rows, 8 are needed"}
    assert any("not judged is where band is 0 (" in finding for finding in found.findings)


def test_a_slice_below_its_floor_keeps_a_better_candidate_from_being_promoted(world: World) -> None:
    found = decided(world, slices=(Slice(by="band", floor=0.9999, minimum_rows=20),))

    assert found.facts["decision"]["verdict"] == Verdict.REJECT.value
    assert "where band is null" in found.findings[0] and "is below the slice's floor 0.9999" in found.findings[0]
    assert found.answered and not found.passed


def test_a_slice_by_a_feature_of_many_values_is_refused_with_their_number(world: World) -> None:
    text = told(refusal(world, compared(world, slices=(Slice(by="amount", floor=0.5),))), "DescriptionError")

    assert text.startswith("Slice.by: expected a feature with at most 20 values on the holdout 2017-06, got 'amount' with ")
    assert text.endswith(". Slice by a feature with few values.")


def test_a_dry_run_is_recorded_with_its_verdict_and_promotes_nothing(world: World) -> None:
    shop, before = world.shop, world.shop.state()

    found = decided(world, mode="dry_run")
    with pytest.raises(NotAdmitted) as refused:
        publish.champion(shop.home, shop.pipeline, found, RunInfo())

    assert (found.passed, found.answered) == (False, True)
    assert (found.facts["decision"]["verdict"], found.facts["decision"]["mode"]) == ("promote", "dry_run")
    assert found.findings[0] == "a dry run: nothing is promoted; enforced, this gate would say promote"
    assert found.findings[0] in str(refused.value)
    assert shop.state() == before


def test_a_gate_that_is_enforced_after_a_dry_run_decides_anew(world: World) -> None:
    dry, enforced = decided(world, mode="dry_run"), decided(world)

    assert dry.order.digest != enforced.order.digest
    assert enforced.passed
    assert enforced.findings == dry.findings[1:]


def test_a_version_in_force_that_was_trained_on_the_holdout_is_not_measured_there(world: World) -> None:
    home, asked = world.shop.home, compared(world).order
    parameters = {**asked.parameters, "candidate": world.old, "champion": world.new}
    inputs = {"candidate": home.versions.read(world.old).digest, "champion": home.versions.read(world.new).digest}
    turned = replace(compared(world), order=replace(asked, parameters=parameters, inputs=inputs))

    (placed,) = orders.audits(home, world.shop.run([turned]))
    found = world.shop.attempt(placed)

    assert found.facts["comparison"]["champion"] is None
    assert found.facts["decision"]["verdict"] == Verdict.NOT_COMPARABLE.value
    assert found.findings[0] == (
        f"{world.new} in force was trained on the holdout 2017-05 (its window: 2017-04, 2017-05), so the two are not comparable "
        "there"
    )
    assert found.answered and not found.passed


# What is compared and scored with is what was published


def test_a_version_tells_the_classes_of_its_pipeline(world: World) -> None:
    manifest = world.shop.home.versions.read(world.old)
    last = {"logistic": ("StandardScaler", "LogisticRegression"), "tree": ("DecisionTreeClassifier",)}

    assert manifest.classes == ("Pipeline", "SimpleImputer", *last[manifest.estimator])
    assert manifest.classes == loading.class_names(loading.open_model(manifest.bundle).model)


def test_a_pickle_planted_in_the_champions_place_does_not_run_when_a_candidate_meets_it(world: World, tmp_path: Path) -> None:
    model, sprung = world.shop.home.versions.read(world.old).files["model.joblib"], tmp_path / "sprung"
    world.shop.home.objects.put(model.uri, training.pickled(Trap(sprung)))

    text = told(refusal(world, compared(world)), "IntegrityError")

    assert text.startswith(f"{model.uri}: expected bytes with SHA-256 ")
    assert "It is not used, and nothing was unpickled." in text
    assert not sprung.exists()


@pytest.mark.parametrize("name", ["model.joblib", "golden.parquet"])
def test_an_altered_file_of_a_version_is_found_before_its_scoring_begins(world: World, name: str) -> None:
    file = world.shop.home.versions.read(world.old).files[name]
    placed = scored(world)
    world.shop.home.objects.put(file.uri, b"planted")

    text = told(refusal(world, placed), "IntegrityError")

    assert text.startswith(f"{file.uri}: expected SHA-256 ")


def test_a_champion_that_scores_otherwise_than_it_did_is_not_compared(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "GOLDEN_TOLERANCE", -1.0)  # what no library of this machine does to it

    text = told(refusal(world, compared(world)), "Drifted")

    assert text.startswith(f"Version {world.old} does not score here as it did where it was trained")


def test_a_model_that_does_not_give_its_golden_scores_again_fails_its_audit_and_is_not_published(world: World) -> None:
    home, before = world.shop.home, world.shop.state()
    staged = home.receipts.read(home.versions.read(world.old).receipt)
    golden = staged.output("golden.parquet")
    rows = pq.read_table(io.BytesIO(home.objects.get(golden.uri))).to_pandas()
    body = io.BytesIO()
    rows.assign(score=rows["score"] + 0.01).to_parquet(body)
    other = Output(name=golden.name, uri=f"{golden.uri}.other", bytes=len(body.getvalue()), sha256=sha256(body.getvalue()))
    home.objects.put(other.uri, body.getvalue())
    # The same work by another Almanac, whose golden rows are not those of its model.
    order = replace(staged.order, almanac="0.0.9")
    home.receipts.place(replace(home.receipts.placed(staged.order.digest), order=order))
    files = tuple(other if output is golden else output for output in staged.outputs)
    drifted = home.receipts.keep(replace(staged, order=order, outputs=files))
    (placed,) = orders.audits(home, {"2017-06": home.receipts.uri(drifted)})

    audited = world.shop.attempt(placed)
    with pytest.raises(NotAdmitted):
        publish.model(home, drifted, audited, RunInfo())

    (finding,) = audited.findings
    assert not audited.passed and "error" not in audited.facts
    assert finding.startswith(
        f"Version {world.old} does not score here as it did where it was trained: a golden row's score differs by 0.01, "
        "expected at most 1e-06. Nothing is scored with it. None of the distributions that its manifest records (deltalake, "
    )
    assert world.shop.state() == before


@pytest.mark.parametrize("which", ["old", "new"])
def test_a_manifest_that_was_replaced_before_the_comparison_is_not_used(world: World, which: str) -> None:
    home, version = world.shop.home, getattr(world, which)
    home.objects.put(home.layout.manifest(version), sealed(replace(home.versions.read(version), module="0" * 64)))

    text = told(refusal(world, compared(world)), "IntegrityError")

    assert text == (
        f"Version {version}: the manifest is not the one that was published, so the version is not loaded. "
        "Restore it from the bucket's versions."
    )


def test_a_manifest_that_is_replaced_after_the_comparison_was_ordered_is_not_used(world: World) -> None:
    home, placed = world.shop.home, compared(world)
    uri = home.layout.manifest(world.new)
    home.objects.put(uri, sealed(replace(home.versions.read(world.new), module="0" * 64)))

    text = told(refusal(world, placed), "IntegrityError")

    assert text == f"{uri}: the manifest is not the one that was promoted. It is not used. Restore it."


def test_a_version_that_neither_the_log_nor_a_receipt_names_is_not_compared(world: World) -> None:
    home = world.shop.home
    published = home.receipts.find(publish_order(home.receipts.placed(home.versions.read(world.new).order).order))
    assert published is not None
    home.objects.delete(home.receipts.uri(published))

    text = told(refusal(world, compared(world)), "NotAdmitted")

    assert text == (
        f"Version {world.new} has neither an entry in the promotion log nor a publish receipt, so nothing vouches for it "
        "and it is not loaded. Clear the task model.publish of its retrain to write the receipt."
    )


# Signatures


def publish_again(world: World, version: str) -> None:
    """What a cleared model.publish does."""
    home = world.shop.home
    manifest = home.versions.read(version)
    publish.model(home, home.receipts.read(manifest.receipt), home.receipts.read(manifest.audit), RunInfo())


def test_unsigned_versions_are_listed_and_otherwise_of_no_use_where_a_signature_is_asked_for(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, before = world.shop, world.shop.state()
    comparing, scoring = compared(world), scored(world)
    monkeypatch.setenv("ALMANAC_VERIFYING_KEY", str(key_pair(tmp_path, "ours")[1]))

    assert "the manifest is not signed" in told(refusal(world, comparing), "Unsigned")
    assert "the manifest is not signed" in told(refusal(world, scoring), "Unsigned")
    with pytest.raises(Unsigned):
        scored(world)
    with pytest.raises(Unsigned):
        compared(world)
    with pytest.raises(Unsigned):
        shop.promote(world.new)
    assert [row.version for row in overview.versions(shop.home)] == [world.old, world.new]
    assert shop.state() == before


def test_an_unsigned_version_is_not_rolled_back_to(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = world.shop
    shop.promote(world.new)
    before = shop.state()
    monkeypatch.setenv("ALMANAC_VERIFYING_KEY", str(key_pair(tmp_path, "ours")[1]))

    with pytest.raises(Unsigned):
        shop.roll_back()
    assert shop.state() == before


def test_versions_that_were_published_again_with_the_key_are_compared_promoted_and_scored_with(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop, (private, public) = world.shop, key_pair(tmp_path, "ours")
    manifests = [shop.home.versions.read(version) for version in (world.old, world.new)]
    monkeypatch.setenv("ALMANAC_SIGNING_KEY", str(private))
    for version in (world.old, world.new):
        publish_again(world, version)
    monkeypatch.setenv("ALMANAC_VERIFYING_KEY", str(public))

    entry = publish.champion(shop.home, shop.pipeline, decided(world), RunInfo())
    shop.score("2017-08")

    assert [shop.home.versions.trusted(version) for version in (world.old, world.new)] == manifests
    assert entry is not None and entry.version == world.new
    assert {item.version for item in shop.home.written() if item.period == "2017-08"} == {world.new}
