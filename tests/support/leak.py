"""A leak: the shop's folder of visits, described as a reference. A function that reads it sees visits after as_of."""

from __future__ import annotations

from typing import Any

from almanac import EventSource, ReferenceSource

# In the shop's module: the visits of the month that follows, which a reader of events would not see.
CODE = {
    "def traits(people: DataFrame) -> DataFrame:": "def traits(people: DataFrame, as_of) -> DataFrame:",
    'return people.select("customer", "band")': (
        'ahead = F.datediff(F.col("at"), F.lit(as_of.replace(tzinfo=None)))\n'
        '    return people.groupBy("customer").agg(F.sum(ahead.between(0, 29).cast("int")).alias("visits_next"))'
    ),
}


def described(landing: str) -> dict[str, Any]:
    """What the description has instead of the shop's own."""
    visits = EventSource(f"{landing}/visits/", event_time="at", timezone="UTC", columns=("customer", "at", "amount"))
    return {"sources": {"visits": visits, "people": ReferenceSource(f"{landing}/visits/")}}
