"""A table of events described as a reference: features of the past know the future, and the version is suspect."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from almanac import EventSource, Gate, ReferenceSource
from almanac.core import facts
from almanac.core.bundle import REPORT
from almanac.core.facts import Gated, StagedModel
from almanac.core.gate import Verdict
from almanac.core.receipts import Receipt
from almanac.lineage import verify
from tests.support import leak
from tests.support.command_line import Asking
from tests.support.shop import Shop

pytestmark = [pytest.mark.store, pytest.mark.spark]

FACT = "feature 'visits_next' alone tells the label with a ROC AUC of 1.000 (threshold 0.98)"


@pytest.fixture(scope="module")
def leaking(store: Any, spark: Any) -> tuple[Shop, str]:
    """A shop whose folder of visits is also described as a reference; and the version that was trained there."""
    shop = Shop.open(f"s3://almanac/{uuid.uuid4().hex}", spark)
    shop.describe(**leak.described(shop.landing))
    shop.code(**leak.CODE)
    return shop, shop.retrain("2017-06")


def staged(shop: Shop, version: str) -> Receipt:
    return shop.home.receipts.read(shop.home.versions.read(version).receipt)


def test_the_version_is_suspect_in_its_report_and_the_findings_of_its_task(leaking: tuple[Shop, str]) -> None:
    shop, version = leaking
    manifest, receipt = shop.home.versions.read(version), staged(shop, version)
    report = json.loads(shop.home.versions.file(manifest.files[REPORT]))

    assert report["verdict"].startswith(f"suspect: {FACT}. ROC AUC 1.000 in training, 1.000 on the holdout. Look for a reference")
    assert "fine" not in report["verdict"]
    assert receipt.findings[0] == report["verdict"] == receipt.facts["verdict"]
    assert [str(one) for one in manifest.suspects] == [FACT]
    assert facts.read(StagedModel, receipt).suspects == manifest.suspects
    assert [one["feature"] for one in report["suspects"]] == ["visits_next"]


def test_the_gate_rejects_it_also_as_the_first_version_and_says_what_to_look_for(leaking: tuple[Shop, str]) -> None:
    shop, version = leaking
    decided = shop.gate("2017-06", version)

    assert decided.answered and not decided.passed
    assert facts.read(Gated, decided).decision.verdict is Verdict.REJECT
    assert decided.findings[0] == (
        f"suspect: {FACT}. Look for a reference without time, or a column that is filled in later; if it is right, set "
        "Gate(allow_suspect=True)"
    )
    assert shop.home.log().entries == ()
    assert verify.verify(shop.home).findings == ()


def test_the_command_line_says_suspect(
    leaking: tuple[Shop, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shop, version = leaking
    monkeypatch.setenv("ALMANAC_ROOT", shop.home.layout.root)
    ask = Asking(monkeypatch, capsys)

    assert f"suspect: {FACT}" in " ".join(ask("show", "shop", version)[1].split())
    assert "reject, suspect" in ask("versions", "shop")[1]
    assert "rejected, suspect" in ask("find", "--suspect")[1]
    assert [one["version"] for one in ask.json("find", "--suspect", "--pipeline", "shop")] == [version]
    assert [one["feature"] for one in ask.json("show", "shop", version)["manifest"]["suspects"]] == ["visits_next"]


def test_a_gate_that_allows_it_promotes_it_and_still_calls_it_suspect(leaking: tuple[Shop, str]) -> None:
    shop, version = leaking
    before = staged(shop, version)
    shop.describe(**leak.described(shop.landing), gate=Gate(metric="roc_auc", min_gain=-0.2, allow_suspect=True))

    allowed = shop.retrain("2017-06")

    log = shop.home.log()
    assert log.champion == allowed == version, "the gate is no part of what a version is trained from"
    assert staged(shop, allowed) == before
    assert shop.home.versions.read(allowed).suspects
    assert log.entries[-1].reason.startswith(f"suspect: {FACT}; Gate(allow_suspect=True) lets it through; ")


def test_the_same_folder_described_as_events_is_not_suspect(leaking: tuple[Shop, str]) -> None:
    shop, _ = leaking
    described = leak.described(shop.landing)
    visits = described["sources"]["visits"]
    assert isinstance(visits, EventSource) and isinstance(described["sources"]["people"], ReferenceSource)
    shop.describe(**{**described, "sources": {"visits": visits, "people": visits}})

    version = shop.retrain("2017-07")

    assert shop.home.versions.read(version).suspects == ()
    assert not staged(shop, version).findings[0].startswith("suspect")
