"""docs/models.md is true: its Python runs, its figures are those of the code, its commands make keys that can be used."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from almanac import Gate, Slice
from almanac.core import gate, suspicion
from almanac.core.bundle import GOLDEN, GOLDEN_TOLERANCE, MODEL, ONNX, REPORT, TRAINED, TREES
from almanac.core.layout import Layout
from almanac.core.suspicion import Evidence, Sign
from almanac.core.target import LOWER_IS_BETTER, METRICS_OF, Target
from almanac.model import comparison, training
from almanac.model import suspicion as measured
from almanac.spark import skew
from almanac.store import signatures


@pytest.fixture(scope="module")
def text(repository: Path) -> str:
    return (repository / "docs" / "models.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def test_the_policy_and_its_decision_are_as_shown(text: str) -> None:
    described, decided = blocks(text.split("## The gate")[1], "python")
    assert "assert " in decided
    names: dict[str, Any] = {}
    exec(compile(described, "policy", "exec"), names)
    exec(compile(decided, "decision", "exec"), names)

    assert isinstance(names["gate"], Gate)
    assert names["decision"].verdict is gate.Verdict.REJECT


def test_every_field_of_the_policy_is_told(text: str) -> None:
    table = text.split("## The gate")[1]
    told = set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))

    assert told == {name for name in Gate.__dataclass_fields__ if name != "metric"}


def test_the_sampling_of_rows_is_as_shown(text: str) -> None:
    (described,) = blocks(text.split("## Which rows train")[1].split("## What a label is")[0], "python")
    assert "assert " in described
    exec(compile(described, "sampling", "exec"), {})


def test_the_kinds_of_labels_and_their_metrics_are_as_shown(text: str) -> None:
    section = text.split("## What a label is, and a score")[1].split("## The gate")[0]
    (described,) = blocks(section, "python")
    assert "assert " in described
    names: dict[str, Any] = {}
    exec(compile(described, "label", "exec"), names)

    told = dict(re.findall(r"^\| `(\w+)` \|.*\| ([^|]+) \|$", section, re.MULTILINE))
    assert told.pop("kind") == "`Gate.metric`"
    assert told == {kind: ", ".join(f"`{metric}`" for metric in metrics) for kind, metrics in METRICS_OF.items()}
    assert names["gate"].metric in names["label"].target.metrics
    (lower,) = re.findall(r"^.*?([^.]+) are better when they are lower", section, re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", lower)) == set(LOWER_IS_BETTER)


def test_the_figures_are_those_of_the_code(text: str) -> None:
    assert float(re.findall(r"by more than (0\.0+1) is an error", text)[0]) == GOLDEN_TOLERANCE
    assert f"up to {training.GOLDEN_ROWS} rows" in text
    assert f"up to {skew.SAMPLED_ROWS} rows of each training period" in text
    assert f"{comparison.RESAMPLES} resamples, a fixed seed" in text
    assert f"{comparison.MOST_ROWS:,} evenly spaced rows" in text
    assert comparison.MOST_LEFT_OUT * 10 == comparison.RESAMPLES and "more than a tenth" in text
    assert f"At most {comparison.MOST_VALUES} values" in text
    assert f"`minimum_rows` rows ({Slice(by='x', floor=0).minimum_rows})" in text


def test_the_thresholds_of_suspicion_and_the_gates_reason_are_those_of_the_code(text: str) -> None:
    section = text.split("## Suspect versions")[1]

    assert section.count(f"a ROC AUC of {suspicion.AREA}") == 2
    assert f"an absolute rank correlation of {suspicion.CORRELATION}" in section
    assert f"a share of {suspicion.SHARE} against all others" in section
    assert f"with a ROC AUC of {suspicion.STRONG_AREA} or an R2 of {suspicion.STRONG_R2}" in section
    assert f"At most {measured.ROWS:,} rows" in section
    assert f"fewer than {suspicion.LEAST_ROWS} rows" in section
    assert f"must reach {suspicion.LEAST_AREA} as well" in section
    refunds = Evidence(feature="refunds", sign=Sign.VALUE, figure=0.997, sides=(120, 681))
    found = suspicion.suspects([refunds], 801, Target())
    compared = gate.Comparison(
        holdout="2017-06", rows=801, candidate_version="v", candidate={"roc_auc": 1.0}, position=0, suspects=found
    )
    assert gate.decide(compared, Gate()).reasons[0] in " ".join(section.split())


def test_the_files_of_a_version_are_named_as_they_are(text: str) -> None:
    named = re.findall(r"^\| `(?:UNIQUE/)?([\w.-]+)` \|", text.split("## What happens")[0], re.MULTILINE)
    layout = Layout("s3://bucket", "shop")

    assert named == [
        layout.manifest("V").rsplit("/", 1)[1],
        layout.signature("V", "SHA256").rsplit("/", 1)[1],
        MODEL,
        GOLDEN,
        "holdout.parquet",
        TRAINED,
        ONNX,
        TREES,
        REPORT,
    ]


def test_the_install_command_is_the_one_that_errors_name(text: str) -> None:
    assert f"```\n{signatures.INSTALL}\n```" in text


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_the_commands_make_a_pair_of_keys_that_sign_and_check(text: str, tmp_path: Path) -> None:
    (commands,) = blocks(text, "sh")
    for command in commands.splitlines():
        subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)

    signature = signatures.sign(b"{}", tmp_path / "almanac-signing.pem")
    signatures.check(b"{}", signature, tmp_path / "almanac-verifying.pem", "s3://bucket/manifest.json")
    (tmp_path / "only").mkdir()
    (tmp_path / "only" / "manifest.json").write_bytes(b"{}")
    (tmp_path / "manifest-SHA256.sig").write_bytes(signature)
    (verify,) = re.findall(r"^model_signing verify .*$", text, re.MULTILINE)
    told = subprocess.run(
        [sys.executable, "-m", *verify.replace("FOLDER", "only").split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
