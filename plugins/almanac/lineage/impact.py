"""Impact: what depends on a source file, a period of features, a version or a run, by following the index downwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from almanac.core.promotions import Log
from almanac.errors import NotFound, examples
from almanac.lineage.index import Index, IndexedReceipt, Shown, within
from almanac.lineage.indexing import complete, fresh, put_back
from almanac.lineage.trail import Progress, reading
from almanac.store.home import Home

Question = Callable[[Index, Shown], "Impact"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """A published period of features or predictions. `state` is `visible` or `replaced`; `version` is the one that scored it."""

    period: str
    order: str
    state: str
    definition: str
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TouchedVersion:
    """A version. `state` is `in force`, `was in force`, `withdrawn` or `never promoted`."""

    version: str
    period: str
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TouchedRun:
    """A run, and the artifacts that it worked on."""

    dag: str
    run: str
    artifacts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDelivery:
    """A source file as delivered at one time, and the feature periods that could read it."""

    uri: str
    size: int
    etag: str
    periods: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """Everything that depends on something. The lists are sorted; artifacts that were staged but never published are left out."""

    of: str
    features: tuple[Partition, ...]
    versions: tuple[TouchedVersion, ...]
    predictions: tuple[Partition, ...]
    runs: tuple[TouchedRun, ...]
    deliveries: tuple[SourceDelivery, ...] = ()


def of_source(index: Index, shown: Shown, uri: str) -> Impact:
    """What could read a source file: exactly the periods whose cut reaches it, and everything made from them.

    Raises:
        NotFound: no pin holds it.
    """
    deliveries = [number for number, file in enumerate(index.files) if file.uri == uri]
    if not deliveries:
        folder = uri.rsplit("/", 1)[0]
        near = sorted({file.uri for file in index.files}, key=lambda known: (not known.startswith(folder), known))
        raise NotFound(f"Source file {uri!r} is in no pin (pinned: {examples(near)}). Name one of them by its full URI.")
    delivered, start = [], []
    for number in deliveries:
        saw = index.select(lambda item, number=number: within(number, item.files))  # type: ignore[misc]
        start += saw
        file = index.files[number]
        periods = sorted({index.receipts[one].period for one in saw if index.receipts[one].artifact == "features"})
        delivered.append(SourceDelivery(uri=file.uri, size=file.size, etag=file.etag, periods=tuple(periods)))
    return _impact(index, shown, f"source file {uri}", start, tuple(delivered))


def of_features(index: Index, shown: Shown, period: str, definition: str = "") -> Impact:
    """What was made from a period of features, under one definition or all.

    Raises:
        NotFound: no such features were published.
    """
    combined = index.select(lambda item: item.artifact == "features" and not item.part)
    start = [
        number
        for number in combined
        if index.receipts[number].period == period and definition in ("", index.receipts[number].definition)
    ]
    if not start:
        there = sorted({(index.receipts[number].period, index.receipts[number].definition) for number in combined})
        listed = examples((f"{known} of {by}" for known, by in there), 12)
        of = f" of definition {definition}" if definition else ""
        raise NotFound(f"No features of {period!r}{of} are recorded (recorded: {listed}). Name one of them.")
    return _impact(index, shown, f"features {period}", start)


def of_version(index: Index, shown: Shown, version: str) -> Impact:
    """What a version wrote.

    Raises:
        NotFound: there is no such version.
    """
    if version not in index.versions:
        raise NotFound(f"Version {version!r} is unknown (known: {examples(sorted(index.versions), 12)}). Name one of them.")
    return _impact(index, shown, f"version {version}", [index.versions[version]])


def of_run(index: Index, shown: Shown, run: str) -> Impact:
    """What a run made, and everything made from that.

    Raises:
        NotFound: no receipt names the run.
    """
    start = index.select(lambda item: item.run == run)
    if not start:
        there = sorted({item.run for item in index.receipts if item.run}, reverse=True)
        raise NotFound(f"Run {run!r} is in no receipt (known: {examples(there)}). Name one of them.")
    return _impact(index, shown, f"run {run}", start)


def _impact(index: Index, shown: Shown, of: str, start: list[int], deliveries: tuple[SourceDelivery, ...] = ()) -> Impact:
    below = index.below(start)
    receipts = [index.receipts[number] for number in sorted(below)]
    published = {needed for item in receipts if item.step == "publish" for needed in item.inputs}
    # An artifact that a run only published depends on the run as much as one that it made.
    numbers = sorted(below | published)
    trained = {number: version for version, number in index.versions.items()}
    return Impact(
        of=of,
        features=_partitions(index, numbers, "features", published, shown),
        predictions=_partitions(index, numbers, "predictions", published, shown),
        versions=tuple(
            TouchedVersion(
                version=trained[number], period=index.receipts[number].period, state=_state(trained[number], shown.log)
            )
            for number in sorted(set(numbers) & trained.keys(), key=lambda number: trained[number])
        ),
        runs=_runs(receipts),
        deliveries=deliveries,
    )


def _partitions(index: Index, numbers: Iterable[int], artifact: str, published: set[int], shown: Shown) -> tuple[Partition, ...]:
    found = []
    for number in numbers:
        item = index.receipts[number]
        if item.artifact != artifact or item.step != "stage" or item.part:
            continue
        table = shown.predictions if artifact == "predictions" else shown.features.get(item.definition, {})
        visible = table.get(item.period) == item.order
        if visible or number in published:
            state = "visible" if visible else "replaced"
            found.append(
                Partition(period=item.period, order=item.order, state=state, definition=item.definition, version=item.version)
            )
    return tuple(sorted(found, key=lambda one: (one.period, one.definition, one.state, one.order)))


def _state(version: str, log: Log) -> str:
    if version in log.withdrawn:
        return "withdrawn"
    if version in log.assignments().values():
        return "in force"
    return "was in force" if version in log.versions else "never promoted"


def _runs(receipts: Iterable[IndexedReceipt]) -> tuple[TouchedRun, ...]:
    found: dict[tuple[str, str], set[str]] = {}
    for item in receipts:
        if item.run:
            found.setdefault((item.dag, item.run), set()).add(f"{item.artifact}.{item.step}")
    return tuple(
        TouchedRun(dag=dag, run=run, artifacts=tuple(sorted(artifacts))) for (dag, run), artifacts in sorted(found.items())
    )


def ask(home: Home, question: Question, progress: Progress | None = None) -> Impact:
    """Answers a question about what depends on something. If the index does not know it, all receipts are searched first:
    artifacts that were staged but never published have receipts too.

    Raises:
        NotFound: there is no record of it.
        IntegrityError: a receipt was altered.
    """
    with reading(home) as trail:
        found, shown = fresh(trail, progress)
        try:
            return question(found, shown)
        except NotFound:
            whole = complete(trail, found, progress)
            put_back(home, whole, found)
            return question(whole, shown)
