"""Impact: what depends on a source file, a period of features, a version or a run; the index followed downwards."""

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
    """A published period of features or predictions. `state` is `visible` or `replaced`; `version` is the one that scored."""

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
    """A run, and the things that it had a hand in."""

    dag: str
    run: str
    artifacts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceDelivery:
    """A source file as it was at one time, and the feature periods that could see it."""

    uri: str
    size: int
    etag: str
    periods: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Impact:
    """Everything that depends on something. The lists are sorted; what was staged and never published is not in them."""

    of: str
    features: tuple[Partition, ...]
    versions: tuple[TouchedVersion, ...]
    predictions: tuple[Partition, ...]
    runs: tuple[TouchedRun, ...]
    deliveries: tuple[SourceDelivery, ...] = ()


def of_source(index: Index, shown: Shown, uri: str) -> Impact:
    """What could see a source file: exactly the periods whose cut reaches it, and all that was made from these.

    Raises:
        NotFound: no pin holds it.
    """
    deliveries = [number for number, file in enumerate(index.files) if file.uri == uri]
    if not deliveries:
        folder = uri.rsplit("/", 1)[0]
        near = sorted({file.uri for file in index.files}, key=lambda known: (not known.startswith(folder), known))
        raise NotFound(f"Source file {uri!r} is in no pin (pinned are: {examples(near)}). Name one of them, with its whole URI.")
    told, start = [], []
    for number in deliveries:
        saw = index.select(lambda item, number=number: within(number, item.files))  # type: ignore[misc]
        start += saw
        file = index.files[number]
        periods = sorted({index.receipts[one].period for one in saw if index.receipts[one].artifact == "features"})
        told.append(SourceDelivery(uri=file.uri, size=file.size, etag=file.etag, periods=tuple(periods)))
    return _impact(index, shown, f"source file {uri}", start, tuple(told))


def of_features(index: Index, shown: Shown, period: str, definition: str = "") -> Impact:
    """What was made from a period of features, of one definition or of all.

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
        raise NotFound(f"No features of {period!r}{of} are known (there are: {listed}). Name one of them.")
    return _impact(index, shown, f"features {period}", start)


def of_version(index: Index, shown: Shown, version: str) -> Impact:
    """What a version wrote.

    Raises:
        NotFound: there is no such version.
    """
    if version not in index.versions:
        raise NotFound(f"Version {version!r} is unknown (there are: {examples(sorted(index.versions), 12)}). Name one of them.")
    return _impact(index, shown, f"version {version}", [index.versions[version]])


def of_run(index: Index, shown: Shown, run: str) -> Impact:
    """What came of a run: what it made itself, and all that was made from that.

    Raises:
        NotFound: no receipt tells of it.
    """
    start = index.select(lambda item: item.run == run)
    if not start:
        there = sorted({item.run for item in index.receipts if item.run}, reverse=True)
        raise NotFound(f"Run {run!r} is in no receipt (there are: {examples(there)}). Name one of them.")
    return _impact(index, shown, f"run {run}", start)


def _impact(index: Index, shown: Shown, of: str, start: list[int], deliveries: tuple[SourceDelivery, ...] = ()) -> Impact:
    below = index.below(start)
    receipts = [index.receipts[number] for number in sorted(below)]
    published = {needed for item in receipts if item.step == "publish" for needed in item.inputs}
    # What a run only published is there through it as much as what it made.
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
    """The answer to a question about what depends on something. What the index does not know is looked for among all
    receipts before it is refused: also what was staged and never published has receipts.

    Raises:
        NotFound: nothing is kept of what is asked for.
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
