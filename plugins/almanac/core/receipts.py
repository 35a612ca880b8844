"""Orders and receipts: what to make, what came of it, and what may be built on a receipt.

Four artifacts are made by write-audit-publish: staged where no reader looks, audited on the very bytes that were staged, and
published in one atomic step. An order's digest is known before the work starts, so the place of its receipt is known as well;
the same order twice finds its receipt and does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

from almanac.core.canonical import digest, later, stored_as
from almanac.core.garbage import FRESH
from almanac.errors import NotAdmitted, bounded, examples

SCHEMA = 1
PART = "part."  # prefix of a feature group's name in the inputs and links of the order that combines the groups

ERROR = "error"


class Artifact(Enum):
    """What is made. `SOURCES` are not made but pinned, and audited if the description requires it; features begin with
    their receipt.
    """

    SOURCES = "sources"
    FEATURES = "features"
    MODEL = "model"
    CHAMPION = "champion"
    PREDICTIONS = "predictions"


class Step(Enum):
    """The steps of write-audit-publish, in order. Sources have `PIN`, and `AUDIT` if they are checked.

    `NOTE` is not one of them: it stores what a person says of a version. It makes nothing, and nothing is built on it.
    """

    PIN = "pin"
    STAGE = "stage"
    AUDIT = "audit"
    PUBLISH = "publish"
    NOTE = "note"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to make and from what. All of it is identity: no run, no time, no file name.

    Args:
        part: a feature group; empty for the whole artifact.
        description: digest of the description that it depends on.
        module: digest of the user's module.
        almanac: the library's version.
        inputs: name to content digest.
        replaces: the order whose result is visible now and which this one will replace; empty when there is none.
        fence: how often this period has been published; a publish moves it by one, or fails.
    """

    pipeline: str
    artifact: Artifact = stored_as("thing")
    step: Step = stored_as("door")
    period: str
    description: str
    module: str
    almanac: str
    inputs: Mapping[str, str]
    part: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    replaces: str = ""
    fence: int = 0
    schema: int = SCHEMA

    @property
    def digest(self) -> str:
        return digest(self)

    def same_work(self, other: Order) -> bool:
        """Whether both would give the same content, whatever they replace."""
        return replace(self, replaces="", fence=0) == replace(other, replaces="", fence=0)

    def next(self, step: Step, inputs: Mapping[str, str], **parameters: Any) -> Order:
        """The order for this artifact's next step."""
        return replace(self, step=step, part="", inputs=dict(inputs), parameters=parameters)

    @property
    def what(self) -> str:
        """What is ordered, for whichever period."""
        part = f".{self.part}" if self.part else ""
        return f"{self.pipeline} {self.artifact.value}.{self.step.value}{part}"

    def __str__(self) -> str:
        return f"{self.what} {self.period}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedOrder:
    """An order as it is stored. The first one placed is kept; all are equal.

    Args:
        links: name to the URI of the receipt that holds an input.
        description: the digest of the pipeline's description; empty for an order that no job runs.
        definition: for a version's order, the definition of the features that the version reads.
    """

    order: Order
    links: Mapping[str, str] = field(default_factory=dict)
    description: str = later("")
    definition: str = later("")

    def __post_init__(self) -> None:
        # 0.1.0 stored both among the links.
        links = dict(self.links)
        for name in ("description", "definition"):
            if name in links:
                object.__setattr__(self, name, links.pop(name))
        object.__setattr__(self, "links", links)


def with_parts(combining: PlacedOrder, parts: Mapping[str, tuple[str, str]]) -> PlacedOrder:
    """An order that combines feature groups, told what to combine. `parts`: group to the content of its receipt and its URI."""
    inputs = {**combining.order.inputs, **{PART + name: content for name, (content, _) in parts.items()}}
    links = {**combining.links, **{PART + name: uri for name, (_, uri) in parts.items()}}
    return replace(combining, order=replace(combining.order, inputs=inputs), links=links)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One file that was made.

    Args:
        uri: where it is.
        bytes, sha256: of the file.
        rows: for a table's file, else None.
        footer: the SHA-256 of a Parquet file's footer, which vouches for partial reads with the checksums of the file's pages.
        stats: for a table's file, column to [minimum, maximum], for the columns that readers filter by.
    """

    name: str
    uri: str
    bytes: int
    sha256: str
    rows: int | None = None
    stats: Mapping[str, Any] = field(default_factory=dict)
    footer: str = later("")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """Who did the work, where and when. It is not part of any identity."""

    environment: str = ""
    commit: str = ""
    dag: str = ""
    run: str = ""
    task: str = ""
    attempt: int = 0
    actor: str = ""
    spark_application: str = ""
    began: datetime | None = None
    ended: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What came of an order.

    Args:
        order: the order, whole.
        attempt: how many attempts failed before it.
        passed: whether the next step may build on it.
        content: the content digest of what was made; empty when nothing was.
        outputs: the files made.
        links: name to the URI of an input's receipt.
        findings: what was found, in plain words; the blocking ones if it did not pass.
        facts: small figures: metrics, counts, a decision; `core.facts` types them for each artifact and step.
        run_info: who did it.
        error: the class of the exception that ended the work; empty if it ran to its end.
    """

    order: Order
    passed: bool
    run_info: RunInfo = stored_as("witness")
    attempt: int = 0
    content: str = ""
    outputs: tuple[Output, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    error: str = later("")

    def __post_init__(self) -> None:
        if isinstance(self.facts.get(ERROR), str):  # 0.1.0 stored it among the facts
            object.__setattr__(self, "error", self.facts[ERROR])
            object.__setattr__(self, "facts", {name: fact for name, fact in self.facts.items() if name != ERROR})

    @property
    def answered(self) -> bool:
        """Whether the order needs no further attempt: it passed, or it is the gate's, whose rejection is an answer too."""
        gate = (self.order.artifact, self.order.step) == (Artifact.CHAMPION, Step.AUDIT)
        return self.passed or (gate and not self.error)

    def stale(self, now: datetime) -> bool:
        """Whether it is a stage with files that is older than a day: it is staged again instead of published."""
        ended = self.run_info.ended
        return self.order.step is Step.STAGE and bool(self.outputs) and ended is not None and now - ended > FRESH

    @property
    def as_audited(self) -> Mapping[str, str]:
        """The inputs of the audit of these very files: a stage that was repeated is audited again."""
        again = {"attempt": str(self.attempt)} if self.attempt else {}
        return {"staged": self.content, "order": self.order.digest, **again}

    @property
    def rows(self) -> int:
        return sum(output.rows or 0 for output in self.outputs)

    def output(self, name: str) -> Output:
        return next(output for output in self.outputs if output.name == name)


def publish_order(staged: Order) -> Order:
    """The order that publishes what a stage order made. It is derived from that order, so a visible file leads to its receipt."""
    return staged.next(Step.PUBLISH, {"staged": staged.digest})


def admit(receipt: Receipt | None, artifact: Artifact, step: Step, *, pipeline: str, period: str | None = None) -> Receipt:
    """The receipt, if it is for that artifact and step of that pipeline (and period), and passed.

    Raises:
        NotAdmitted: it is not; nothing may be built on it.
    """
    wanted = f"{pipeline} {artifact.value}.{step.value}" + (f" {period}" if period else "")
    if receipt is None:
        raise NotAdmitted(f"No receipt for {wanted}. Run the task {artifact.value}.{step.value} first.")
    order = receipt.order
    if (order.pipeline, order.artifact, order.step) != (pipeline, artifact, step) or (period and order.period != period):
        raise NotAdmitted(f"Expected a receipt for {wanted}, got one for {order}.")
    if not receipt.passed:
        raise NotAdmitted(f"The receipt for {order} did not pass, so nothing is built on it:\n{bounded(receipt.findings)}")
    return receipt


Cause = TypeVar("Cause")


def alike(failed: Iterable[tuple[Order, str, Cause]]) -> list[tuple[str, Cause]]:
    """Failures that differ in the period alone, told as one: what was ordered, with its periods; and the first one's cause.

    Args:
        failed: an order, what its error says, and its cause.
    """
    found: dict[tuple[str, str], tuple[list[str], Cause]] = {}
    for order, text, cause in failed:
        periods, _ = found.setdefault((order.what, text.replace(order.period, "")), ([], cause))
        periods.append(order.period)
    return [(f"{what} {examples(periods, 12)}", cause) for (what, _), (periods, cause) in found.items()]
