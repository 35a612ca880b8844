"""Creates files once and keeps them: complete or not at all, even if the program is stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def folder(kept: Path, make: Callable[[Path], None]) -> Path:
    """A folder, which `make` fills if it does not exist."""
    if not kept.exists():
        draft = kept.with_suffix(".new")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        make(draft)
        draft.rename(kept)
    return kept


def results(path: Path, found: dict[str, Any]) -> None:
    """Writes results to a JSON file, replacing the previous ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(found, indent=2) + "\n")
    draft.replace(path)
