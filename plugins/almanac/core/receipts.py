"""Orders and receipts: what is asked for, what came of it, and what a receipt admits to.

Four things go through three doors. An order's digest is known before the work starts, so whoever waits for its
receipt knows where to look; the same order twice finds its receipt and does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from almanac.core.canonical import digest, later
from almanac.errors import NotAdmitted, bounded

SCHEMA = 1
PART = "part."  # before a feature group's name, among the inputs and links of the order that combines the groups

# An older stage is not published; so what gc finds unpublished after a week can be deleted beside running jobs.
FRESH = timedelta(days=1)


class Thing(Enum):
    """What is made. `SOURCES` is not made but pinned, and audited where that is asked for; features begin with its receipt."""

    SOURCES = "sources"
    FEATURES = "features"
    MODEL = "model"
    CHAMPION = "champion"
    PREDICTIONS = "predictions"


class Door(Enum):
    """What a thing goes through, in this order; sources go through `PIN`, and through `AUDIT` where they are to be checked.

    `NOTE` is a window beside the doors: what a person says of a version. It makes nothing, and nothing is built on it.
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
        part: a feature group; empty for the whole thing.
        description: digest of the description that it depends on.
        module: digest of the user's module.
        almanac: the library's version.
        inputs: name to content digest.
        replaces: the order whose result is visible now and which this one is to replace; empty when there is none.
        fence: how often this period has been published; a publish moves it by one, or fails.
    """

    pipeline: str
    thing: Thing
    door: Door
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

    def next(self, door: Door, inputs: Mapping[str, str], **parameters: Any) -> Order:
        """The order for this thing at its next door."""
        return replace(self, door=door, part="", inputs=dict(inputs), parameters=parameters)

    def __str__(self) -> str:
        part = f".{self.part}" if self.part else ""
        return f"{self.pipeline} {self.thing.value}.{self.door.value}{part} {self.period}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """An order as it is kept: with the receipts in which its inputs are found. The first to place it wins; all are equal."""

    order: Order
    links: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One file that was made.

    Args:
        uri: where it lies.
        bytes, sha256: of the file.
        rows: of a table's file, else None.
        footer: the SHA-256 of a Parquet file's footer, which with the checksums of its pages vouches for what is read in parts.
        stats: of a table's file: column to [minimum, maximum], for the columns that readers look for.
    """

    name: str
    uri: str
    bytes: int
    sha256: str
    rows: int | None = None
    stats: Mapping[str, Any] = field(default_factory=dict)
    footer: str = later("")


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """Who did the work, where and when. It identifies nothing."""

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
        passed: whether it opens the next door.
        content: the content digest of what was made; empty when nothing was.
        outputs: the files made.
        links: name to the URI of an input's receipt.
        findings: what was found, in plain words; blocking ones when not passed.
        facts: small figures: metrics, counts, a decision.
        witness: who did it.
    """

    order: Order
    passed: bool
    witness: Witness
    attempt: int = 0
    content: str = ""
    outputs: tuple[Output, ...] = ()
    links: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[str, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def answered(self) -> bool:
        """Whether the order needs no other attempt: it passed, or it asked the gate, whose no is an answer too."""
        gate = (self.order.thing, self.order.door) == (Thing.CHAMPION, Door.AUDIT)
        return self.passed or (gate and "error" not in self.facts)

    def stale(self, now: datetime) -> bool:
        """Whether it is a stage with files that is older than a day: it is not published any more, but staged anew."""
        ended = self.witness.ended
        return self.order.door is Door.STAGE and bool(self.outputs) and ended is not None and now - ended > FRESH

    @property
    def as_audited(self) -> Mapping[str, str]:
        """The inputs of the audit that asks for these very files: a stage done anew is audited anew."""
        again = {"attempt": str(self.attempt)} if self.attempt else {}
        return {"staged": self.content, "order": self.order.digest, **again}

    @property
    def rows(self) -> int:
        return sum(output.rows or 0 for output in self.outputs)

    def output(self, name: str) -> Output:
        return next(output for output in self.outputs if output.name == name)


def publish_order(staged: Order) -> Order:
    """The order that publishes what a stage order made. It follows from it, so a visible file leads to its receipt."""
    return staged.next(Door.PUBLISH, {"staged": staged.digest})


def admit(receipt: Receipt | None, thing: Thing, door: Door, *, pipeline: str, period: str | None = None) -> Receipt:
    """The receipt, if it is of that thing and door, of that pipeline (and period), and passed.

    Raises:
        NotAdmitted: it is not; nothing may be built on it.
    """
    wanted = f"{pipeline} {thing.value}.{door.value}" + (f" {period}" if period else "")
    if receipt is None:
        raise NotAdmitted(f"No receipt for {wanted}. Run the task {thing.value}.{door.value} first.")
    order = receipt.order
    if (order.pipeline, order.thing, order.door) != (pipeline, thing, door) or (period and order.period != period):
        raise NotAdmitted(f"A receipt for {order} was shown where one for {wanted} is needed.")
    if not receipt.passed:
        raise NotAdmitted(f"The receipt for {order} did not pass, so nothing is built on it:\n{bounded(receipt.findings)}")
    return receipt
