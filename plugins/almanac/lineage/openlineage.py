"""Lineage for OpenLineage: the data sets that the receipts of a task read and wrote.

Airflow's OpenLineage provider calls an operator's `get_openlineage_facets_on_complete(task_instance)`. These events are
optional: without the provider there are none, and any failure here is logged as a warning and never fails a task.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from almanac.core.facts import version_of
from almanac.core.pins import PinnedFile
from almanac.core.receipts import Artifact, Output, Receipt, Step
from almanac.lineage.trail import Trail, reading, seen_by
from almanac.settings import VERSION
from almanac.store.home import Home
from almanac.store.objects import split

if TYPE_CHECKING:
    from openlineage.client.event_v2 import Dataset, InputDataset, OutputDataset

log = logging.getLogger(__name__)
PRODUCER = f"urn:almanac:{VERSION}"


def on_complete(home: Home, receipts: Iterable[str]) -> Any:
    """What a task read and wrote, as the provider's `OperatorLineage`, from the URIs of its receipts.

    None if the provider is not installed, with one warning per process, or if something failed, with a warning each time.
    """
    try:
        return _lineage(home, list(receipts)) if has_provider() else None
    except Exception as error:
        log.warning("No OpenLineage event for this task: %s: %s", type(error).__name__, error)
        return None


@functools.cache
def has_provider() -> bool:
    try:
        import airflow.providers.openlineage.extractors  # type: ignore[import-not-found]  # noqa: F401  # not in every Airflow
    except ImportError:
        log.warning(
            "No OpenLineage events: the package apache-airflow-providers-openlineage is not installed. Install it with Airflow "
            "to get lineage events. Receipts hold the same lineage in any case."
        )
        return False
    return True


def _lineage(home: Home, uris: list[str]) -> Any:
    inputs, outputs = datasets(home, uris)
    from airflow.providers.openlineage.extractors import OperatorLineage

    return OperatorLineage(inputs=inputs, outputs=outputs)


def datasets(home: Home, uris: Iterable[str]) -> tuple[list[InputDataset], list[OutputDataset]]:
    """The data sets that the orders of receipts read and wrote, each once, sorted by name.

    Each source file is a data set, and so is each period of a table. Needs the package openlineage-python.

    Raises:
        NotFound, IntegrityError: a receipt is missing or was altered.
    """
    listed = list(uris)
    with reading(home) as trail:
        trail.read(listed)
        trail.read(link for uri in listed for link in trail.receipts[uri].links.values())
        trail.look_into({uri: trail.receipts[uri] for uri in listed})
        outputs = [_written(home, trail.receipts[uri]) for uri in listed]
        inputs = [dataset for uri in listed for dataset in _read(trail, trail.receipts[uri])]
    return _once(inputs), _once(one for one in outputs if one is not None)


def _once(found: Iterable[Any]) -> list[Any]:
    named = {(dataset.namespace, dataset.name): dataset for dataset in found}
    return [named[name] for name in sorted(named)]


def _read(trail: Trail, receipt: Receipt) -> list[Dataset]:
    from openlineage.client.event_v2 import InputDataset

    found = [
        InputDataset(*name, facets=_version(linked.content))
        for linked in (trail.receipts[uri] for uri in receipt.links.values())
        if linked.outputs and linked.order.artifact is not Artifact.SOURCES and (name := _name(trail.home, linked))
    ]
    if (version := receipt.order.inputs.get("version")) is not None:
        found.append(InputDataset(*_model(trail.home, receipt), facets=_version(version)))
    files = (file for listed in seen_by(trail, receipt).values() for file in listed)
    return [*found, *(InputDataset(*_place(file.uri), facets=_version(_mark(file))) for file in files)]


def _written(home: Home, receipt: Receipt) -> OutputDataset | None:
    """The data set that an order wrote; None for an audit or an order without outputs."""
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.generated.output_statistics_output_dataset import OutputStatisticsOutputDatasetFacet

    if not receipt.outputs or receipt.order.step is Step.AUDIT:
        return None
    statistics = OutputStatisticsOutputDatasetFacet(
        rowCount=receipt.rows or None, size=_bytes(receipt.outputs), fileCount=len(receipt.outputs), producer=PRODUCER
    )
    facets = {"outputStatistics": statistics}
    return OutputDataset(*_name(home, receipt), outputFacets=facets, facets=_version(receipt.content))  # type: ignore[arg-type]


def _bytes(outputs: Iterable[Output]) -> int:
    return sum(output.bytes for output in outputs)


def _mark(file: PinnedFile) -> str:
    return f"{file.etag} {file.size}"


def _version(content: str) -> dict[str, Any]:
    from openlineage.client.generated.dataset_version_dataset import DatasetVersionDatasetFacet

    return {"version": DatasetVersionDatasetFacet(datasetVersion=content, producer=PRODUCER)}


def _name(home: Home, receipt: Receipt) -> tuple[str, str]:
    """Namespace and name of a receipt's data set, by OpenLineage's naming rule for S3: the bucket, and the key."""
    order = receipt.order
    if order.artifact is Artifact.SOURCES or order.part:
        return _place(home.layout.part(order.digest, order.part).rstrip("/"))
    if order.artifact is Artifact.MODEL:
        return _model(home, receipt)
    return _place(f"{home.table_of(order).uri}/period={order.period}")


def _model(home: Home, receipt: Receipt) -> tuple[str, str]:
    return _place(f"{home.layout.models}{version_of(receipt)}")


def _place(uri: str) -> tuple[str, str]:
    bucket, key = split(uri)
    return f"s3://{bucket}", key
