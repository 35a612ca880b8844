"""explain, impact and verify: what they say to people, what they give to scripts, how they end."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from prov.model import ProvDocument

from almanac import cli
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]

Ask = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ask(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs a command in this process; gives exit code, output and errors."""
    monkeypatch.setenv("ALMANAC_ROOT", world.shop.home.layout.root)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["almanac", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
            sys.exit(0)
        written = capsys.readouterr()
        return int(ended.value.code or 0), written.out, written.err

    return run


def nodes(tree: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield tree
    for child in tree["children"]:
        yield from nodes(child)


def files(tree: Mapping[str, Any], name: str) -> list[str]:
    (part,) = [node for node in tree["children"] if node["name"] == name]
    return [file["name"] for file in part["children"]]


def test_explain_shows_a_tree_down_to_source_files(world: World, ask: Ask):
    code, output, error = ask("explain", "shop", "2017-07")
    manifest = world.shop.home.versions.read(world.old)
    (etag,) = {item.etag for item in world.shop.home.objects.walk(f"{world.shop.landing}/visits/2017-07.parquet")}

    assert (code, error) == (0, "")
    assert output.splitlines()[0].startswith(f"shop predictions 2017-07: {world.scored.rows} rows, order ")
    for told in (
        f"├── version {world.old}: {manifest.estimator}, trained on 2017-03, 2017-04, judged on 2017-05",
        "├── 6 checks passed: s3://",
        "checks.html",
        "gate: promote: roc_auc ",
        "promotion by entry 1 of the log, in force from 2017-07, by ",
        "run test, Spark local-",
        f"module {manifest.module[:12]}, definition {manifest.definition}, almanac 0.1.0",
        "scikit-learn 1.",
        f"{world.shop.landing}/visits/2017-07.parquet (",
        f"bytes, etag {etag})",
        "features 2017-05 (holdout): ",
        "habits: 3 source files",
        "labels: 3 source files",
    ):
        assert told in output


def test_explain_gives_the_same_tree_as_json(world: World, ask: Ask):
    code, output, _ = ask("explain", "shop", "2017-07", "--json")
    tree = json.loads(output)

    assert code == 0
    assert [child["kind"] for child in tree["children"]] == ["run", "checks", "publish", "code", "version", "features"]
    version, features = tree["children"][4:]
    assert (version["name"], version["facts"]["training"]) == (world.old, ["2017-03", "2017-04"])
    assert version["facts"]["manifest"] == world.shop.home.versions.read(world.old).digest
    assert files(features, "habits") == ["2017-05.parquet", "2017-06.parquet", "2017-07.parquet"]
    assert files(features, "traits") == ["all.parquet"]
    assert files(version, "labels") == ["2017-04.parquet", "2017-05.parquet", "2017-06.parquet"]
    assert all(node["uri"].startswith("s3://") for node in nodes(tree) if node["kind"] in ("run", "checks", "file", "gate"))


def test_explain_of_an_entity_shows_its_row(world: World, ask: Ask):
    customer, score = next((row[1], row[2]) for row in world.shop.scores())
    code, output, _ = ask("explain", "shop", "2017-07", "--entity", str(customer))
    assert code == 0
    assert f"├── customer {customer}: score {score:.6f} by {world.old}\n" in output

    row = json.loads(ask("explain", "shop", "2017-07", "--entity", str(customer), "--json")[1])["children"][0]
    assert row["kind"] == "row"
    facts = row["facts"]
    assert (facts["customer"], facts["score"], facts["model_version"], facts["in_sample"]) == (customer, score, world.old, False)


def test_an_entity_that_the_period_does_not_have_is_refused(world: World, ask: Ask):
    code, output, error = ask("explain", "shop", "2017-07", "--entity", "4711")
    assert (code, output) == (1, "")
    assert error == (
        f"almanac: Predictions of 2017-07 have no customer '4711' ({world.scored.rows} rows). Name one that the table "
        "holds; the pipeline's population decides which these are.\n"
    )
    code, _, error = ask("explain", "shop", "2017-07", "--entity", "seventeen")
    assert code == 1
    assert "have no customer 'seventeen'" in error and "customer is int64, and 'seventeen' is not" in error


def test_a_period_that_is_not_there_is_refused_with_those_that_are(ask: Ask):
    code, output, error = ask("explain", "shop", "2017-12")
    assert (code, output) == (1, "")
    assert error == "almanac: Pipeline shop has no predictions of '2017-12' (visible: 2017-07). Name one of them.\n"


def test_explain_names_the_altered_record_that_it_would_have_to_rely_on(world: World, ask: Ask):
    uri = world.scored.links["audit"]
    body = world.shop.home.objects.get(uri)
    world.shop.home.objects.put(uri, body.replace(b'"passed":true', b'"passed":tru3', 1))
    code, output, error = ask("explain", "shop", "2017-07")

    assert (code, output) == (1, "")
    assert error.startswith(f"almanac: {uri}: expected a valid Receipt, got other bytes")


def test_explain_writes_prov_to_a_file_or_to_the_output(world: World, ask: Ask, tmp_path: Path):
    code, output, _ = ask("explain", "shop", "2017-07", "--prov", str(tmp_path / "prov.json"))
    assert code == 0
    assert output.startswith("shop predictions 2017-07")
    written = ProvDocument.deserialize(content=(tmp_path / "prov.json").read_text(), format="json")
    code, output, _ = ask("explain", "shop", "2017-07", "--prov", "-")
    assert code == 0
    assert ProvDocument.deserialize(content=output, format="json") == written

    code, output, error = ask("explain", "shop", "2017-07", "--prov", str(tmp_path / "none" / "prov.json"))
    assert (code, output) == (2, "")
    assert error == (
        f"almanac: --prov: cannot write {tmp_path}/none/prov.json (No such file or directory). "
        "Name a writable file, or - for standard output.\n"
    )


def test_impact_lists_what_depends_on_a_source_file(world: World, ask: Ask):
    uri = f"{world.shop.landing}/visits/2017-01.parquet"
    code, output, error = ask("impact", "shop", "--source", uri)
    told = [" ".join(line.split()) for line in output.splitlines()]

    assert (code, error) == (0, "")
    assert told[0] == f"source file {uri}"
    definition = world.shop.home.versions.read(world.old).definition
    assert told[1].startswith("file ") and told[1].endswith("seen by 2017-03")
    assert told[2:5] == [
        f"features 2017-03 of {definition}, visible",
        f"version {world.old}, in force",
        f"predictions 2017-07 by {world.old}, visible",
    ]
    assert told[5].startswith("run test: ")
    found = json.loads(ask("impact", "shop", "--source", uri, "--json")[1])
    assert [one["period"] for one in found["features"]] == ["2017-03"]
    assert [one["version"] for one in found["versions"]] == [world.old]


def test_impact_is_asked_of_features_of_a_version_and_of_a_run(world: World, ask: Ask):
    def predictions(*arguments: str) -> list[str]:
        code, output, _ = ask("impact", "shop", *arguments, "--json")
        assert code == 0
        return [one["period"] for one in json.loads(output)["predictions"]]

    definition = world.shop.home.versions.read(world.old).definition
    assert predictions("--features", "2017-08") == []
    assert predictions("--features", "2017-07", "--definition", definition) == ["2017-07"]
    assert predictions("--version", world.old) == ["2017-07"]
    assert predictions("--version", world.new) == []
    assert predictions("--run", "test") == ["2017-07"]


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ((), "got 0 of the four"),
        (("--version", "v", "--run", "r"), "got 2 of the four"),
        (("--version", "v", "--definition", "d"), "got 1 of the four and --definition"),
    ],
)
def test_impact_of_nothing_or_of_two_things_is_a_wrong_call(ask: Ask, arguments: tuple[str, ...], found: str):
    code, output, error = ask("impact", "shop", *arguments)

    assert (code, output) == (2, "")
    assert error == (
        "almanac: impact: expected one of --source, --features, --version and --run, with --definition only beside --features; "
        f"{found}. Name one.\n"
    )


def test_impact_of_what_is_unknown_names_what_is_there(world: World, ask: Ask):
    code, output, error = ask("impact", "shop", "--version", "2016-01-00000000")

    assert (code, output) == (1, "")
    assert error == (
        f"almanac: Version '2016-01-00000000' is unknown (known: {', '.join(sorted((world.old, world.new)))}). "
        "Name one of them.\n"
    )


def test_verify_says_what_it_read_and_that_nothing_differs(world: World, ask: Ask):
    code, output, error = ask("verify", "shop")

    assert (code, error) == (0, "")
    assert output.startswith("shop: reread descriptions 1, entries 1, files ")
    assert output.endswith("Nothing differs from what was written.\n")
    found = json.loads(ask("verify", "shop", "--json")[1])
    assert (found["findings"], found["checked"]["partitions"]) == ([], 7)


def test_verify_names_what_differs_and_ends_with_1(world: World, ask: Ask):
    output = world.scored.outputs[0]
    world.shop.home.objects.put(output.uri, b"other")
    world.shop.home.objects.put(f"{world.shop.landing}/visits/2017-01.parquet", b"other")
    code, told, _ = ask("verify", "shop")

    assert code == 1
    assert (
        f"{output.uri}\n    found     5 bytes with SHA-256 d9298a10d1b0735837dc4bd85dac641b0f3cef27a47e5d53a54f2f3f5b2fcffa\n"
        f"    expected  {output.bytes} bytes with SHA-256 {output.sha256}\n"
        "    remedy    Restore it from the bucket's versions, or build it again.\n"
    ) in told
    assert f"source {world.shop.landing}/visits/2017-01.parquet: changed since it was pinned as " in told
    assert told.endswith("1 object differs.\n")
    code, told, _ = ask("verify", "shop", "--json")
    assert (code, [one["uri"] for one in json.loads(told)["findings"]]) == (1, [output.uri])


def read(terminal: int) -> Iterator[bytes]:
    """What is written to a terminal until nobody has it open any more; Linux tells that with an error."""
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 4096):
            yield part


def test_progress_goes_to_a_terminals_stderr_and_to_no_pipe(world: World):
    environment = {**os.environ, "ALMANAC_ROOT": world.shop.home.layout.root, "TERM": "xterm", "COLUMNS": "100"}
    ours, theirs = pty.openpty()
    asked = [sys.executable, "-m", "almanac", "verify", "shop", "--json"]
    with subprocess.Popen(asked, env=environment, stdout=subprocess.PIPE, stderr=theirs) as running:
        os.close(theirs)
        shown = b"".join(read(ours)).decode()
        output, _ = running.communicate()
    os.close(ours)

    assert running.returncode == 0
    assert json.loads(output)["findings"] == []
    assert "receipts" in shown and "files" in shown


@pytest.mark.parametrize("command", ["explain", "impact", "verify"])
def test_each_command_explains_itself_with_an_example(ask: Ask, command: str):
    code, output, _ = ask(command, "--help")

    assert code == 0
    assert f"Example: almanac {command} purchase_propensity" in output
