"""The user's module, `spark_jobs/NAME.py`: read, checked against the description without importing it, zipped for Spark jobs."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

from almanac.core.functions import check_text
from almanac.core.pipeline import Pipeline
from almanac.errors import DescriptionError

ZIP_TIME = (1980, 1, 1, 0, 0, 0)


def check(spark_jobs: Path, pipeline: Pipeline) -> None:
    """Checks the module of a pipeline.

    Raises:
        DescriptionError: there is no such file, or it does not fit the description; the message says where.
    """
    _read(spark_jobs, pipeline)


def checked_zip(spark_jobs: Path, pipeline: Pipeline) -> bytes:
    """The module of a pipeline, checked and zipped; equal files give equal bytes. Raises: as `check`."""
    return _zipped(f"{pipeline.name}.py", _read(spark_jobs, pipeline))


def module_zip(spark_jobs: Path, name: str) -> bytes:
    """A module, zipped as it is.

    Raises:
        DescriptionError: the file does not exist.
    """
    return _zipped(f"{name}.py", _file(spark_jobs, name).read_bytes())


def _read(spark_jobs: Path, pipeline: Pipeline) -> bytes:
    path = _file(spark_jobs, pipeline.name)
    found = path.read_bytes()
    try:
        text = found.decode()
    except UnicodeDecodeError as error:
        line = found[: error.start].count(b"\n") + 1
        raise DescriptionError(f"{shown(path)}, line {line}: {error}. Save the file as UTF-8.") from None
    check_text(text, shown(path), pipeline)
    return found


def _file(spark_jobs: Path, name: str) -> Path:
    path = spark_jobs / f"{name}.py"
    if not path.is_file():
        raise DescriptionError(
            f"Pipeline {name!r} has no module: {path.name} is not in {shown(spark_jobs)}. Create it there with the user "
            "functions, or set ALMANAC_SPARK_JOBS to the folder that has it."
        )
    return path


def shown(path: Path) -> str:
    """A path as people find it: relative to the working directory where it is below that."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def _zipped(name: str, found: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name, ZIP_TIME), found)
    return packed.getvalue()
