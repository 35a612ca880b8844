"""What a task leaves for Airflow's OpenLineage provider.

Imported by a running task only, never when DAGs are parsed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from almanac.core.canonical import decode
from almanac.core.pipeline import Pipeline
from almanac.lineage.openlineage import on_complete
from almanac.settings import Settings
from almanac.store.home import Home


def receipts_in(found: Any) -> dict[str, str]:
    """Period to receipt's URI, where a task returned them; else nothing."""
    pairs = found.items() if isinstance(found, dict) else ()
    return {key: uri for key, uri in pairs if isinstance(uri, str) and "/receipts/" in uri}


def facets(description: str, receipts: Mapping[str, str]) -> Any:
    """What a task read and wrote, as the provider's facets; None where it left no receipt."""
    if not receipts:
        return None
    pipeline = decode(Pipeline, json.loads(description))
    return on_complete(Home.of(Settings.from_environment().root, pipeline.name), receipts.values())
