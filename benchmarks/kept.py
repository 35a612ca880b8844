"""What is made once and kept: whole or not at all, also when the program that makes it is stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def folder(kept: Path, make: Callable[[Path], None]) -> Path:
    """A folder that `make` fills when it is not there yet."""
    if not kept.exists():
        draft = kept.with_suffix(".new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        make(draft)
        draft.rename(kept)
    return kept


def results(path: Path, found: dict[str, Any]) -> None:
    """Keeps results as a file of JSON, in the place of the ones before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(found, indent=2) + "\n")
    draft.replace(path)
