"""Facts of receipts: typed, under the keys that were stored since 0.1.0."""

from __future__ import annotations

import json

import pytest

from almanac.core import facts
from almanac.core.canonical import decode, dumps, encode, opened, sealed
from almanac.core.facts import AuditedRows, StagedFeatures, StagedPredictions
from almanac.core.receipts import PlacedOrder, Receipt, RunInfo
from almanac.errors import IntegrityError
from tests.support.records import order, receipt


def test_facts_are_read_as_what_they_are_and_what_is_not_set_is_not_kept() -> None:
    staged = StagedFeatures(rows=3, features=("visits",))
    assert encode(staged) == {"rows": 3, "features": ["visits"]}
    assert facts.read(StagedFeatures, receipt(facts=encode(staged))) == staged

    degraded = StagedFeatures(rows=3, features=("visits", "band"), left_out=("traits",), nulls=("band",))
    kept = receipt(facts=encode(degraded))
    assert facts.left_out(kept) == ("traits",)
    assert facts.read(StagedFeatures, kept) == degraded


def test_facts_of_another_kind_are_refused() -> None:
    with pytest.raises(IntegrityError, match=r"cannot be read as StagedPredictions \(StagedPredictions .*checks"):
        facts.read(StagedPredictions, receipt(facts=encode(AuditedRows(checks=2, rows=3))))


def test_records_keep_the_keys_that_they_were_stored_with() -> None:
    stored = json.loads(dumps(receipt(run_info=RunInfo(run="r"))))
    assert stored["witness"]["run"] == "r" and "run_info" not in stored
    assert stored["order"]["thing"] == "features" and stored["order"]["door"] == "stage"
    assert opened(Receipt, sealed(receipt())) == receipt()


def test_an_error_is_a_field_also_of_a_receipt_that_kept_it_among_its_facts() -> None:
    plain = {name: value for name, value in encode(receipt(passed=False)).items() if name != "error"}
    older = decode(Receipt, {**plain, "facts": {"error": "DataError"}})
    assert (older.error, older.facts) == ("DataError", {})
    assert "error" not in encode(receipt()), "it is kept where there is one"
    assert encode(receipt(passed=False, error="DataError"))["error"] == "DataError"


def test_a_source_may_be_called_error() -> None:
    of_a_pin = receipt(facts={"error": {"rows": 3}})
    assert (of_a_pin.error, of_a_pin.facts) == ("", {"error": {"rows": 3}})


def test_links_are_receipts_alone_also_of_an_order_that_kept_more_among_them() -> None:
    older = decode(PlacedOrder, {"order": encode(order()), "links": {"pin": "s3://p", "description": "d1", "definition": "f1"}})
    assert older == PlacedOrder(order=order(), links={"pin": "s3://p"}, description="d1", definition="f1")
