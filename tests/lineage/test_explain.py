"""Provenance without a store: which files an order could see, and the tree that receipts tell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from almanac.core.cuts import seen
from almanac.core.pins import Pin, PinnedFile
from almanac.core.pipeline import Pipeline
from almanac.core.promotions import Log
from almanac.core.receipts import Artifact, Receipt, RunInfo, Step
from almanac.lineage.explain import Evidence, Node, explain, walk
from tests.support.records import order, output, promote, receipt, roll_back
from tests.support.shop import pipeline

VISITS, PEOPLE = "s3://landing/visits/", "s3://landing/people/"
SHOP: Pipeline = pipeline("s3://landing")


def month(number: int, *, bounds: bool = True) -> PinnedFile:
    """A month's file of visits, whose events lie within the month."""
    low = datetime(2017, number, 1, tzinfo=UTC)
    known = {"low": low, "high": low + timedelta(days=27)} if bounds else {}
    return PinnedFile(uri=f"{VISITS}2017-{number:02}.parquet", size=100 + number, etag=f"etag {number}", groups=(5,), **known)


PINS = {
    "visits": Pin(source="visits", uri=VISITS, files=tuple(map(month, range(1, 10))), columns={}),
    "people": Pin(
        source="people", uri=PEOPLE, files=(PinnedFile(uri=f"{PEOPLE}all.parquet", size=1, etag="etag people"),), columns={}
    ),
}


def names(found: Any) -> dict[str, list[str]]:
    return {source: [file.uri.rsplit("/", 1)[-1] for file in files] for source, files in found.items()}


def test_a_group_could_see_the_files_that_its_lookback_reaches_and_none_after_its_as_of():
    found = seen(order(part="habits", period="2017-06"), SHOP, PINS)

    assert names(found) == {"visits": ["2017-04.parquet", "2017-05.parquet", "2017-06.parquet"]}


def test_a_reference_source_is_seen_whole():
    assert names(seen(order(part="traits"), SHOP, PINS)) == {"people": ["all.parquet"]}


def test_an_order_that_combines_saw_what_its_population_reads():
    assert names(seen(order(part="", period="2017-03"), SHOP, PINS)) == {
        "visits": ["2017-01.parquet", "2017-02.parquet", "2017-03.parquet"]
    }


def test_a_training_saw_the_files_of_its_labels_for_each_snapshot():
    trained = order(artifact=Artifact.MODEL, period="2017-06", parameters={"training": ["2017-03"], "holdout": "2017-05"})

    assert names(seen(trained, SHOP, PINS)) == {"visits": ["2017-04.parquet", "2017-06.parquet"]}


def test_a_file_that_does_not_tell_its_times_could_be_seen_by_all():
    pins = {"visits": Pin(source="visits", uri=VISITS, files=(month(9, bounds=False),), columns={})}

    assert names(seen(order(part="habits", period="2017-03"), SHOP, pins)) == {"visits": ["2017-09.parquet"]}


def test_audits_publishes_and_scores_see_no_source_themselves():
    for step, artifact in [
        (Step.AUDIT, Artifact.FEATURES),
        (Step.PUBLISH, Artifact.FEATURES),
        (Step.STAGE, Artifact.PREDICTIONS),
    ]:
        assert seen(order(step=step, artifact=artifact), SHOP, PINS) == {}


def made(artifact: Artifact, period: str, links: dict[str, str], **given: Any) -> dict[str, Receipt]:
    """The receipts of an artifact that was staged, audited and published, by short names instead of URIs."""
    staged = order(artifact=artifact, period=period, **given.pop("order", {}))
    at = f"{artifact.value} {period}"
    run_info = RunInfo(dag="shop", run="r1", task=artifact.value, attempt=2, commit="abc", spark_application="app-1")
    return {
        f"{at} staged": receipt(staged, links=links, outputs=(output("f", rows=7),), run_info=run_info, **given),
        f"{at} audited": receipt(staged.next(Step.AUDIT, {}), links={"staged": f"{at} staged"}, facts={"checks": 4}),
        f"{at} published": receipt(
            staged.next(Step.PUBLISH, {}),
            links={"staged": f"{at} staged", "audit": f"{at} audited"},
            run_info=RunInfo(actor="ann"),
        ),
    }


def evidence(log: Log) -> Evidence:
    receipts = {
        "pin": receipt(order(artifact=Artifact.SOURCES, step=Step.PIN)),
        "habits": receipt(order(part="habits", period="2017-07"), links={"pin": "pin"}),
        "gate": receipt(order(artifact=Artifact.CHAMPION, step=Step.AUDIT), findings=("better by far",)),
        **made(Artifact.FEATURES, "2017-03", {"pin": "pin"}),
        **made(Artifact.FEATURES, "2017-05", {"pin": "pin"}),
        **made(Artifact.FEATURES, "2017-07", {"pin": "pin", "part.habits": "habits"}),
        **made(
            Artifact.MODEL,
            "2017-06",
            {"pin": "pin", "features.2017-03": "features 2017-03 published", "features.2017-05": "features 2017-05 published"},
            order={"parameters": {"training": ["2017-03"], "holdout": "2017-05"}},
            facts={"estimator": "tree", "training": ["2017-03"], "holdout": "2017-05", "environment": {"numpy": "2"}},
        ),
        **made(Artifact.PREDICTIONS, "2017-07", {"features": "features 2017-07 published"}, order={"inputs": {"version": "m1"}}),
    }
    return Evidence(
        head="predictions 2017-07 published",
        receipts=receipts,
        pins={"pin": PINS},
        pipelines={"d1": SHOP},
        version="v1",
        trained=("model 2017-06 staged", "model 2017-06 audited"),
        manifest="s3://manifest",
        keys=("customer",),
        log=log,
    )


def children(node: Node, kind: str) -> list[Node]:
    return [child for child in node.children if child.kind == kind]


def test_the_tree_leads_from_predictions_to_runs_checks_version_features_files_and_code():
    log = promote(Log(), "v1", "2017-07", gate="gate", verdict="promote", actor="ann")
    tree = explain(evidence(log))

    assert [child.kind for child in tree.children] == ["run", "checks", "publish", "code", "version", "features"]
    assert (tree.name, tree.uri) == ("shop predictions 2017-07", "predictions 2017-07 staged")
    (run,) = children(tree, "run")
    assert {key: run.facts[key] for key in ("dag", "run", "task", "try", "spark_application")} == {
        "dag": "shop",
        "run": "r1",
        "task": "predictions",
        "try": 2,
        "spark_application": "app-1",
    }
    assert children(tree, "checks")[0].name == "4 checks passed"
    assert children(tree, "publish")[0].name == "ann"
    (version,) = children(tree, "version")
    assert [child.kind for child in version.children] == [
        "run", "checks", "gate", "promotion", "code", "features", "features", "part",
    ]  # fmt: skip
    assert [(one.name, one.facts["holdout"]) for one in children(version, "features")] == [
        ("features 2017-03", False),
        ("features 2017-05", True),
    ]
    (features,) = children(tree, "features")
    assert [(part.name, part.facts["files"]) for part in children(features, "part")] == [("habits", 3), ("population", 3)]
    file = children(features, "part")[0].children[0]
    assert (file.uri, file.facts) == (
        f"{VISITS}2017-05.parquet", {"source": "visits", "size": 105, "etag": "etag 5", "rows": 5}
    )  # fmt: skip


def test_the_tree_tells_the_code_of_each_thing():
    (version,) = children(explain(evidence(Log())), "version")

    assert children(version, "code")[0].facts == {
        "commit": "abc",
        "module": "m1",
        "definition": "d1",
        "almanac": "0.1.0",
        "environment": "",
        "libraries": {"numpy": "2"},
    }


def test_the_tree_tells_who_promoted_a_version_why_and_who_took_it_out_of_force():
    log = promote(Log(), "v0", "2017-06")
    log = promote(log, "v1", "2017-07", gate="gate", verdict="reject", actor="ann", reason="campaign")
    log = roll_back(log, "v0", "2017-07", reason="broken feed", actor="bob")
    told = [node for node in walk(explain(evidence(log))) if node.kind in ("gate", "promotion", "withdrawal")]

    assert [(node.kind, node.name) for node in told] == [
        ("gate", "reject"), ("promotion", "entry 2"), ("withdrawal", "entry 3"),
    ]  # fmt: skip
    assert told[0].facts["reasons"] == ["better by far"]
    assert (told[1].facts["actor"], told[1].facts["reason"], told[1].facts["over_a_rejection"]) == ("ann", "campaign", True)
    assert (told[2].facts["actor"], told[2].facts["reason"]) == ("bob", "broken feed")


def test_a_row_stands_first_and_says_whether_it_is_in_sample():
    found = explain(evidence(Log()), {"customer": 17, "score": 0.5, "model_version": "v1"}).children[0]

    assert (found.kind, found.name) == ("row", "customer 17")
    assert found.facts == {"customer": 17, "score": 0.5, "model_version": "v1", "in_sample": False}


def test_predictions_whose_publisher_died_before_its_receipt_are_told_from_their_stage():
    whole = evidence(Log())
    found = explain(Evidence(**{
        **{name: getattr(whole, name) for name in Evidence.__dataclass_fields__}, "head": "predictions 2017-07 staged",
    }))  # fmt: skip

    assert [child.kind for child in found.children] == ["run", "code", "version", "features"]
    assert found.children[0].uri == "predictions 2017-07 staged"
