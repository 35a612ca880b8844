"""The facets of a task for Airflow's OpenLineage provider.

Only running tasks import this module; DAG parsing does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from almanac.core.canonical import decode
from almanac.core.pipeline import Pipeline
from almanac.settings import Settings
from almanac.store.home import Home


def receipts_in(found: Any) -> dict[str, str]:
    """Maps each period to its receipt's URI, if a task returned them; otherwise empty."""
    pairs = found.items() if isinstance(found, dict) else ()
    return {key: uri for key, uri in pairs if isinstance(uri, str) and "/receipts/" in uri}


def facets(description: str, receipts: Mapping[str, str]) -> Any:
    """What a task read and wrote, as the provider's facets; None if it left no receipt."""
    if not receipts:
        return None
    from almanac.lineage.openlineage import on_complete

    pipeline = decode(Pipeline, json.loads(description))
    return on_complete(Home.of(Settings.from_environment().root, pipeline.name), receipts.values())
