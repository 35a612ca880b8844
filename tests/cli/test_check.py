"""`almanac check`: a project's two files, without Airflow, Spark or a bucket."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from almanac.errors import DescriptionError
from almanac.project import Project, load_environment
from tests.support.command_line import Asking
from tests.support.shop import MODULE, MONTHS, pipeline, visits
from tests.support.shop_dags import write_dags, write_jobs
from tests.support.world import World

FITS = "shop: every function exists and takes what the description reads.\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the small pipeline."""
    monkeypatch.delenv("ALMANAC_SPARK_JOBS", raising=False)
    write_dags(tmp_path / "dags", pipeline("s3://shop"))
    write_jobs(tmp_path / "spark_jobs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ask(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Asking:
    for name in ("ALMANAC_ROOT", "AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    return Asking(monkeypatch, capsys)


def test_files_that_fit_are_let_through(ask: Asking) -> None:
    assert ask("check", "shop") == (0, FITS, "")
    assert ask.json("check", "shop")["functions"] == ["customers", "habits", "returns", "traits"]


@pytest.mark.store
@pytest.mark.spark
def test_what_a_pin_would_find_in_the_sources_is_told_where_it_is_asked(
    world: World, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dags(folder / "dags", world.shop.pipeline)
    ask = Asking(monkeypatch, capsys)
    assert ask("check", "shop", "--sources") == (0, FITS, "")

    world.shop.put("visits", "2017-05.parquet.bak", visits(MONTHS[4]))
    world.shop.home.objects.put(f"{world.shop.landing}/people/all.parquet", b"")
    empty, passed = sorted(ask.json("check", "shop", "--sources")["sources"])
    assert passed.startswith("Source 'visits': Parquet files of another ending are not read (1): ")
    assert empty.startswith("Source 'people': ") and "all.parquet is empty (0 bytes), expected a Parquet file." in empty


def test_what_does_not_fit_is_told_with_its_line(folder: Path, ask: Asking) -> None:
    module = folder / "spark_jobs" / "shop.py"
    module.write_text(MODULE.read_text().replace("def traits(people: DataFrame)", "def traits(persons: DataFrame)"))
    code, output, errors = ask("check", "shop")
    assert (code, output) == (1, "")
    assert errors.startswith("almanac: spark_jobs/shop.py, line 18: Function 'traits' of pipeline 'shop' takes (persons), but ")
    module.unlink()
    assert "Pipeline 'shop' has no module: shop.py is not in spark_jobs." in ask("check", "shop")[2]


def test_an_error_of_the_dag_file_names_its_line(folder: Path) -> None:
    file = folder / "dags" / "shop.py"
    for text, told in (
        ("import\n", "dags/shop.py, line 1: "),
        ("\n\nbuild_dags(3)\n", "dags/shop.py, line 3: NameError: name 'build_dags' is not defined"),
        (
            "from almanac.airflow import build_dags\n\nbuild_dags(3)\n",
            "dags/shop.py, line 3: build_dags: expected a Pipeline, got int.",
        ),
        (
            "from almanac import EventSource\n\nEventSource('s3://a/b/', event_time='at', timezone='Mars')",
            "dags/shop.py, line 3: EventSource.timezone: ",
        ),
        (
            "from almanac.airflow import build_dags\n",
            "dags/shop.py: expected build_dags(Pipeline(name='shop', ...)), found pipelines: none.",
        ),
    ):
        file.write_text(text)
        with pytest.raises(DescriptionError) as refused:
            Project(Path()).described("shop")
        assert str(refused.value).startswith(told)


def test_an_unknown_pipeline_is_told_with_those_there_are(ask: Asking) -> None:
    assert "Pipeline 'shopp' has no DAG file: dags/shopp.py does not exist (found in dags: shop)." in ask("check", "shopp")[2]
    assert "(found in elsewhere/dags: none)" in ask("check", "shop", "--folder", "elsewhere")[2]


def test_a_dag_file_may_use_the_dags_that_it_builds_and_its_neighbours(folder: Path) -> None:
    file = folder / "dags" / "shop.py"
    (folder / "dags" / "beside.py").write_text("VERB = 'retrain'\n")
    more = "\nfrom beside import VERB\n\ndags[f'shop_{VERB}'].get_task('plan') >> [dag.tags.add('x') for dag in dags.values()]\n"
    file.write_text(file.read_text().replace("build_dags(decode", "dags = build_dags(decode") + more)
    assert Project(Path()).described("shop").name == "shop"


def test_neither_airflow_nor_spark_nor_pandas_is_loaded(folder: Path) -> None:
    program = (
        "import sys\nfrom almanac import cli\nsys.argv = ['almanac', 'check', 'shop']\n"
        "try:\n    cli.main()\nexcept SystemExit as ended:\n    assert not ended.code, ended.code\n"
        "print(sorted({'airflow', 'pyspark', 'pandas', 'sklearn'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("[]\n")


# The environment of `almanac up`


def test_the_environment_of_a_project_is_read_where_nothing_else_is_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = folder / ".almanac" / "env"
    file.parent.mkdir()
    file.write_text("ALMANAC_ROOT=s3://almanac/x\nAWS_REGION=moon\nPATH=/nowhere\nALMANAC_ACTOR=file\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ALMANAC_", "AWS_"))}
    monkeypatch.setattr(os, "environ", {**kept, "ALMANAC_ACTOR": "mine"})

    assert load_environment(folder / "dags") == file
    assert (os.environ["ALMANAC_ROOT"], os.environ["AWS_REGION"]) == ("s3://almanac/x", "moon")
    assert (os.environ["PATH"], os.environ["ALMANAC_ACTOR"]) == (kept["PATH"], "mine")


def test_a_project_that_is_named_takes_the_place_of_the_one_around(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path_factory.mktemp("other")
    write_dags(other / "dags", pipeline("s3://shop"))
    write_jobs(other / "spark_jobs")
    (other / "spark_jobs" / "shop.py").write_text("def customers(visits):\n    return (\n")
    (folder / ".almanac").mkdir()
    (folder / ".almanac" / "env").write_text(f"ALMANAC_ROOT=s3://almanac/x\nALMANAC_SPARK_JOBS='{folder / 'spark_jobs'}'\n")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ALMANAC_", "AWS_"))}
    monkeypatch.setattr(os, "environ", dict(kept))
    ask = Asking(monkeypatch, capsys)

    assert ask("check", "shop") == (0, FITS, "")
    code, _, error = ask("check", "shop", "--folder", str(other))
    assert code == 1 and f"{other / 'spark_jobs' / 'shop.py'}, line 2: " in error
    assert "ALMANAC_ROOT" not in os.environ


def test_a_persons_own_credentials_are_not_sent_to_the_projects_server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / ".almanac").mkdir()
    (folder / ".almanac" / "env").write_text("ALMANAC_ROOT=s3://almanac/x\nAWS_ACCESS_KEY_ID=local\nALMANAC_NOTE='two words'\n")
    own = {"AWS_ACCESS_KEY_ID": "mine", "AWS_SESSION_TOKEN": "secret", "AWS_PROFILE": "work"}
    monkeypatch.setattr(os, "environ", dict(own))

    load_environment(folder)
    assert os.environ == {"AWS_ACCESS_KEY_ID": "local", "ALMANAC_ROOT": "s3://almanac/x", "ALMANAC_NOTE": "two words"}
    load_environment(folder.parent)
    assert os.environ == own


def test_files_that_share_a_helper_are_each_run_with_their_own(folder: Path) -> None:
    (folder / "dags" / "helper.py").write_text("from almanac.airflow import build_dags\nbuild = build_dags\n")
    text = (folder / "dags" / "shop_dags.py").read_text() if (folder / "dags" / "shop_dags.py").exists() else None
    for name in ("one", "two"):
        described = repr(f"s3://{name}")
        (folder / "dags" / f"{name}.py").write_text(
            "from dataclasses import replace\nfrom helper import build\nfrom tests.support.shop import pipeline\n"
            f"build(replace(pipeline({described}), name={name!r}))\n"
        )
    found, failed = Project(folder).every()
    assert {"one", "two"} <= {one.name for one in found} and failed == [] and text is None
    assert Project(folder).described("two").name == "two"
    assert "helper" not in sys.modules


def test_put_does_not_guess_a_place_while_a_dag_file_fails(folder: Path, ask: Asking, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "dags" / "broken.py").write_text("import nowhere_at_all\n")
    (folder / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setenv("ALMANAC_LANDING", "s3://almanac/landing")
    code, _, error = ask("put", "a.parquet", "events")
    assert code == 1
    assert "Source 'events' is in no DAG file that can be read, and this one cannot:" in error
    assert "broken.py, line 1: ModuleNotFoundError: No module named 'nowhere_at_all'" in error
    code, _, error = ask("put", "a.parquet", "s3://")
    assert (code, "expected a folder such as s3://bucket/folder/, got 's3://'" in error) == (1, True)


def test_put_copies_nothing_to_a_table(folder: Path, ask: Asking) -> None:
    (folder / "dags" / "lake.py").write_text(
        "from dataclasses import replace\nfrom almanac import Delta, EventSource\nfrom almanac.airflow import build_dags\n"
        "from tests.support.shop import pipeline\nplain = pipeline('s3://lake')\n"
        "table = EventSource('s3://lake/table/', event_time='at', format=Delta())\n"
        "build_dags(replace(plain, name='lake', sources={**plain.sources, 'visits': table}))\n"
    )
    (folder / "a.parquet").write_bytes(b"PAR1")
    code, _, error = ask("put", "a.parquet", "visits")
    assert code == 1
    assert " ".join(error.split()) == (
        "almanac: Source 'visits' is a table, s3://lake/table/, and not a folder of files. Write its rows with the table's own "
        "tools."
    )


def test_without_a_project_nothing_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {})
    assert load_environment(tmp_path) is None
    assert os.environ == {}
