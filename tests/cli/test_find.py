"""Find, compare and annotate on a bucket alone: what they say to people, what they give to scripts, how they end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from almanac.core.canonical import encode, sealed
from almanac.store.home import Home
from tests.support.command_line import Asking
from tests.support.world import World

pytestmark = [pytest.mark.store, pytest.mark.spark]


@pytest.fixture
def ask(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asking:
    monkeypatch.setenv("ALMANAC_ROOT", world.shop.home.layout.root)
    return Asking(monkeypatch, capsys)


def found(ask: Asking, *arguments: str) -> list[str]:
    return [one["version"] for one in ask.json("find", *arguments)]


# --- find ---


def test_without_conditions_every_version_of_every_pipeline_is_found_the_newest_first(world: World, ask: Asking) -> None:
    home = world.shop.home
    other = replace(home.versions.read(world.old), pipeline="mall")
    home.objects.put(Home.of(home.layout.root, "mall").layout.manifest(world.old), sealed(other))
    moved = replace(home.receipts.read(other.receipt), order=replace(home.receipts.read(other.receipt).order, pipeline="mall"))
    mall = Home.of(home.layout.root, "mall")
    home.objects.put(mall.receipts.uri(moved), sealed(moved))
    home.objects.put(mall.layout.manifest(world.old), sealed(replace(other, receipt=mall.receipts.uri(moved))))

    whole = ask.json("find")
    assert {(one["pipeline"], one["version"]) for one in whole} == {
        ("shop", world.new),
        ("shop", world.old),
        ("mall", world.old),
    }
    assert [one["trained"] for one in whole] == sorted((one["trained"] for one in whole), reverse=True)
    assert found(ask, "--pipeline", "shop") == [world.new, world.old]
    assert found(ask, "--pipeline", "mall") == [world.old]


def test_versions_are_found_by_what_they_are_made_of(world: World, ask: Asking) -> None:
    manifest, newer = (world.shop.home.versions.read(name) for name in (world.old, world.new))
    assert {"Pipeline", "SimpleImputer"} < set(manifest.classes)
    same = [world.new, world.old] if newer.estimator == manifest.estimator else [world.old]

    assert found(ask, "--estimator", "SIMPLEIMPUTER") == [world.new, world.old]
    assert found(ask, "--estimator", manifest.classes[-1]) == found(ask, "--estimator", manifest.estimator) == same
    assert found(ask, "--estimator", "forest of pines") == []
    assert found(ask, "--feature", manifest.features[0], "--feature", manifest.features[-1]) == [world.new, world.old]
    assert found(ask, "--feature", manifest.features[0], "--feature", "nothing") == []
    assert found(ask, "--period", "2017-06") == [world.old]
    assert found(ask, "--period", "2017-07", "--period", "2017-06") == [world.old]
    assert found(ask, "--period", "2030-01") == []


def test_versions_are_found_by_when_they_were_trained_and_how_they_fared(world: World, ask: Asking) -> None:
    old, new = (world.shop.home.versions.read(name).metrics["roc_auc"] for name in (world.old, world.new))
    assert old != new

    assert found(ask, "--since", "7d") == found(ask, "--since", "2017-01-01") == [world.new, world.old]
    assert found(ask, "--since", "0h") == []
    assert found(ask, "--metric", f"roc_auc>={max(old, new):.17f}") == [world.new if new > old else world.old]
    assert found(ask, "--metric", "roc_auc>0", "--metric", "log_loss<0") == []


def test_versions_are_found_by_what_became_of_them(world: World, ask: Asking) -> None:
    shop = world.shop
    assert found(ask, "--promoted") == [world.old]
    assert found(ask, "--rejected") == found(ask, "--withdrawn") == []
    shop.promote(world.new)
    shop.roll_back()
    assert found(ask, "--promoted") == [world.new, world.old]
    assert found(ask, "--promoted", "--withdrawn") == [world.new]
    shop.describe(gate=replace(shop.pipeline.gate, min_gain=0.9))
    assert not shop.gate("2017-07", world.new).passed
    assert found(ask, "--rejected") == [world.new]


def test_versions_are_found_by_what_people_said_of_them(world: World, ask: Asking) -> None:
    ask("annotate", "shop", world.old, "trained on the Sales week", "--tag", "campaign", "--tag", "2017")

    assert found(ask, "--note", "sales WEEK") == found(ask, "--tag", "campaign", "--tag", "2017") == [world.old]
    assert found(ask, "--note", "holiday") == found(ask, "--tag", "camp") == []


def test_find_shows_people_a_line_for_each_version(world: World, ask: Asking) -> None:
    ask("annotate", "shop", world.old, "look [here]")
    code, output, errors = ask("find", "--promoted")

    assert (code, errors) == (0, "")
    header, line = output.strip().splitlines()
    assert header.split()[:4] == ["pipeline", "version", "period", "trained"]
    assert line.split()[:3] == ["shop", world.old, "2017-06"]
    assert "promoted" in line and "look [here]" in line


def test_finding_nothing_is_no_error_and_says_so(ask: Asking) -> None:
    code, output, errors = ask("find", "--feature", "nothing")
    assert (code, errors) == (0, "")
    assert output == "None of 2 versions meets these conditions. Leave one out, or list all versions: almanac find\n"
    assert ask.json("find", "--feature", "nothing") == []


@pytest.mark.parametrize(
    ("option", "text", "told"),
    [
        ("--since", "soon", "expected how long ago (36h, 7d, 2w) or a day such as 2017-01-01; got 'soon'."),
        (
            "--period",
            "June",
            "expected a period's key, a month such as 2017-09, a quarter such as 2017-Q3 or a day such as 2017-09-04; got "
            "'June'.",
        ),
        ("--metric", "auc", "such as roc_auc>=0.8; got 'auc'. Quote it, so that the shell does not interpret the sign."),
    ],
)
def test_a_condition_that_cannot_be_read_is_a_wrong_call_with_an_example(ask: Asking, option: str, text: str, told: str) -> None:
    code, output, errors = ask("find", option, text)
    assert (code, output) == (2, "")
    assert f"Invalid value for {option}: expected " in errors
    assert told in errors


def test_find_in_an_unknown_pipeline_lists_those_that_there_are(ask: Asking) -> None:
    code, _, errors = ask("find", "--pipeline", "shopp")
    assert code == 1
    assert "Pipeline 'shopp' does not exist in ALMANAC_ROOT (found: " in errors


# --- compare ---


def test_compare_says_plainly_that_figures_of_different_holdouts_are_not_comparable(world: World, ask: Asking) -> None:
    code, output, errors = ask("compare", "shop", world.old, world.new)
    assert (code, errors) == (0, "")
    assert "The holdouts differ (2017-05 and 2017-06), so the metrics are not comparable." in output
    lines = {line.split("  ")[0]: line for line in output.splitlines()}
    assert lines["roc_auc"].endswith("not comparable")
    assert "2017-03, 2017-04" in lines["training"] and lines["training"].rstrip().endswith("differs")
    assert not lines["module"].rstrip().endswith("differs")
    assert "promote" in lines["gate"] and "from 2017-07" in lines["in force"] and "never" in lines["in force"]


def test_compare_gives_scripts_both_manifests_and_every_difference(world: World, ask: Asking) -> None:
    home = world.shop.home
    old, new = (home.versions.read(name) for name in (world.old, world.new))
    whole = ask.json("compare", "shop", world.old, world.new)

    assert (whole["a"], whole["b"]) == (encode(old), encode(new))
    assert whole["comparable"] is False
    assert whole["metrics"]["roc_auc"] == {"a": old.metrics["roc_auc"], "b": new.metrics["roc_auc"], "difference": None}
    assert whole["properties"]["holdout"] == {"a": "2017-05", "b": "2017-06"}
    assert (whole["added"], whole["removed"], whole["libraries"]) == ([], [], {})
    assert [row["version"] for row in whole["rows"]] == [world.old, world.new]


def test_compare_on_one_holdout_gives_differences_of_figures_features_and_libraries(world: World, ask: Asking) -> None:
    home = world.shop.home
    old = home.versions.read(world.old)
    features = (*old.features[1:], "baskets_30d")
    metrics = {**old.metrics, "roc_auc": old.metrics["roc_auc"] - 0.25}
    libraries = {**old.environment, "numpy": "1.0"}
    other = replace(old, version="2017-06-00000000", features=features, metrics=metrics, environment=libraries)
    home.versions.publish(other)
    ask("annotate", "shop", other.version, "an older numpy", "--tag", "trial")

    whole = ask.json("compare", "shop", world.old, other.version)
    assert whole["comparable"] is True and whole["remark"] == ""
    assert whole["metrics"]["roc_auc"]["difference"] == pytest.approx(-0.25)
    assert whole["metrics"]["log_loss"]["difference"] == 0
    assert (whole["added"], whole["removed"]) == (["baskets_30d"], [old.features[0]])
    assert whole["libraries"] == {"numpy": {"a": old.environment["numpy"], "b": "1.0"}}
    assert whole["rows"][1]["notes"][0]["text"] == "an older numpy"

    _, output, _ = ask("compare", "shop", world.old, other.version)
    lines = {line.split("  ")[0]: line for line in output.splitlines()}
    assert lines["roc_auc"].rstrip().endswith("-0.2500")
    assert "baskets_30d" in lines["features only in one"] and old.features[0] in lines["features only in one"]
    assert "1.0" in lines["numpy"]
    assert "an older numpy [trial]" in lines["notes"]
    assert "not comparable" not in output


def test_compare_with_an_unknown_version_lists_those_that_there_are(world: World, ask: Asking) -> None:
    code, _, errors = ask("compare", "shop", world.old, "2016-01-00000000")
    assert code == 1
    assert errors == (f"almanac: Version '2016-01-00000000' is unknown (known: {world.old}, {world.new}). Name two of them.\n")


# --- annotate ---


def test_a_note_is_kept_with_who_said_it_and_shown_wherever_the_version_is(world: World, ask: Asking) -> None:
    before = world.shop.state()
    kept = ask.json("annotate", "shop", world.old, "sales week", "--tag", "campaign")
    assert (kept["text"], kept["tags"], kept["actor"]) == ("sales week", ["campaign"], "ann")

    assert f"ann, {kept['at'][:10]}: sales week [campaign]" in ask("show", "shop", world.old)[1]
    assert ask.json("show", "shop", world.old)["notes"] == [kept]
    assert ask.json("show", "shop", world.new)["notes"] == []
    assert [row["notes"] for row in ask.json("versions", "shop")] == [[kept], []]
    assert world.shop.state() == before, "a note is no entry of the promotion log, and changes nothing else"


def test_the_same_note_by_the_same_person_is_one_note_and_by_another_person_another(world: World, ask: Asking) -> None:
    first = ask.json("annotate", "shop", world.old, "sales week")
    assert ask.json("annotate", "shop", world.old, " sales week ") == first
    assert ask("annotate", "shop", world.old, "sales week", actor="ben")[0] == 0

    (row, _) = ask.json("versions", "shop")
    assert [(note["text"], note["actor"]) for note in row["notes"]] == [("sales week", "ann"), ("sales week", "ben")]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((" ",), "Note: expected a text, got none. Write what others should know about the version."),
        (
            ("fine", "--tag", "two words"),
            "Tag: expected letters, digits and _ . : - without spaces, such as campaign-2017; got 'two words'.",
        ),
    ],
)
def test_a_note_without_text_or_with_a_tag_of_two_words_is_a_wrong_call(
    world: World, ask: Asking, arguments: tuple[str, ...], told: str
) -> None:
    code, output, errors = ask("annotate", "shop", world.old, *arguments)
    assert (code, output) == (2, "")
    assert told in errors
    assert world.changed() == []


def test_a_note_about_an_unknown_version_is_refused(world: World, ask: Asking) -> None:
    code, _, errors = ask("annotate", "shop", "2016-01-00000000", "fine")
    assert code == 1
    assert errors.startswith("almanac: Version '2016-01-00000000' is unknown (known: ")
    assert world.changed() == []


@pytest.mark.parametrize("command", ["find", "compare", "annotate", "gc"])
def test_each_command_explains_itself_with_an_example(ask: Asking, command: str) -> None:
    code, output, _ = ask(command, "--help")
    assert code == 0
    assert f"almanac {command} " in " ".join(output.split("Example")[1].split())
    assert "--json" in output
