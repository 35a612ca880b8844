"""The small pipeline as a DAG file and a folder of jobs, for an Airflow of a test."""

from __future__ import annotations

import shutil
from pathlib import Path

from almanac.core.canonical import dumps
from almanac.core.pipeline import Pipeline
from tests.support.shop import MODULE

DAG_FILE = '''"""The shop's DAGs, for a test: airflow finds this dag file by these two words."""
import json

from almanac.airflow import build_dags
from almanac.core.canonical import decode
from almanac.core.pipeline import Pipeline

build_dags(decode(Pipeline, json.loads({description!r})))
'''


def write_dags(folder: Path, *pipelines: Pipeline) -> Path:
    """A DAG file for each pipeline; gives their folder."""
    folder.mkdir(exist_ok=True)
    for described in pipelines:
        (folder / f"{described.name}.py").write_text(DAG_FILE.format(description=dumps(described).decode()))
    return folder


def write_jobs(folder: Path) -> Path:
    """A folder with the shop's module; gives it."""
    folder.mkdir(exist_ok=True)
    shutil.copy(MODULE, folder / "shop.py")
    return folder
