"""What Spark's drivers and executors get of the library: all of it, compiled."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from almanac.settings import PACKAGE

pytestmark = [pytest.mark.airflow, pytest.mark.usefixtures("airflow_home")]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tempfile

    from almanac.airflow.library import library_zip

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("zip")))
        made = library_zip()
        assert library_zip() == made
    return Path(made)


def test_every_module_is_there_as_source_and_compiled(library: Path) -> None:
    names = set(zipfile.ZipFile(library).namelist())
    sources = {str(Path("almanac") / file.relative_to(PACKAGE)) for file in PACKAGE.rglob("*.py")}
    assert names == sources | {f"{name}c" for name in sources}


def test_a_process_that_sees_the_zip_alone_loads_what_was_compiled(library: Path) -> None:
    script = "import sys; sys.path.insert(0, sys.argv[1]); from almanac.core import gate; print(gate.__file__)"
    done = subprocess.run([sys.executable, "-c", script, str(library)], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == f"{library}/almanac/core/gate.pyc"


@pytest.mark.parametrize("first", ["nobody", "a folder that all can write to", "a link", "a file"])
def test_the_zip_lies_where_nobody_else_can_put_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str) -> None:
    import os
    import tempfile

    from almanac.airflow.library import library_zip

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    usual, elsewhere = tmp_path / f"almanac-{os.getuid()}", tmp_path / "elsewhere"
    if first == "a folder that all can write to":
        usual.mkdir()
        usual.chmod(0o777)
    elif first == "a link":
        elsewhere.mkdir(mode=0o700)
        usual.symlink_to(elsewhere)
    elif first == "a file":
        usual.write_bytes(b"")

    made = Path(library_zip())

    assert (made.parent == usual) == (first == "nobody")
    assert made.parent.stat().st_mode & 0o077 == 0 and not made.parent.is_symlink()
    assert library_zip() == str(made)
