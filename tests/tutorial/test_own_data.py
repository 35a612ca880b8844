"""The tutorial docs/own-data.md, run whole, as a person types it into a shell in an empty folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.airflow, pytest.mark.spark, pytest.mark.store]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    environment = _environment(tmp_path)
    yield tmp_path
    subprocess.run(["almanac", "down"], cwd=tmp_path, env=environment, check=False)


def _environment(folder: Path) -> dict[str, str]:
    """That of a person who has nothing set; what pip installs lands in the folder, not in the venv of the tests."""
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ALMANAC_", "AWS_", "AIRFLOW", "SPARK_", "PYSPARK"))
    }
    binaries = Path(sys.executable).parent
    packages = folder / "packages"
    importable = os.pathsep.join(filter(None, (str(packages), own.get("PYTHONPATH"))))
    return {**own, "PATH": f"{binaries}:{own['PATH']}", "PIP_TARGET": str(packages), "PYTHONPATH": importable}


@pytest.mark.timeout(2400)
def test_every_command_of_the_tutorial_does_what_it_says(
    folder: Path, repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = re.findall(r"<!-- test: run -->\n```sh\n(.*?)```", (repository / "docs" / "own-data.md").read_text(), re.DOTALL)
    assert len(blocks) == 6
    output = []
    began = time.monotonic()
    for block in blocks:
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", block],
            cwd=folder,
            env=_environment(folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        output.append(done.stdout)
        assert done.returncode == 0, f"{block}\n{done.stdout[-6000:]}"
    with capsys.disabled():
        print(f"\ndocs/own-data.md took {(time.monotonic() - began) / 60:.1f} minutes")
    draft, machine, first, second, rollback = output[1:]
    assert "buying: every function exists and takes what the description reads." in draft
    assert "holdout 1997-12: roc_auc" in machine and "Nothing was stored." in machine
    written = [_versions(text) for text in (first, second, rollback)]
    old, new = written[1]["1998-03"], written[1]["1998-04"]
    assert old.startswith("1998-01-") and new.startswith("1998-03-")
    assert written == [
        {"1998-02": old, "1998-03": old},
        {"1998-02": old, "1998-03": old, "1998-04": new, "1998-05": new},
        dict.fromkeys(("1998-02", "1998-03", "1998-04", "1998-05"), old),
    ]
    assert "trained on the discounts of March" in rollback


def _versions(text: str) -> dict[str, str]:
    """Period to version, by the table that `almanac predictions` ends with."""
    return dict(re.findall(r"^(199\d-\d\d) +\d+ +(\S+)", text, re.MULTILINE))
