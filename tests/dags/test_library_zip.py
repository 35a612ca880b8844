"""What Spark's drivers and executors get of the library: all of it, compiled."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from almanac.settings import PACKAGE

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tempfile

    from almanac.airflow.desk import library_zip

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
