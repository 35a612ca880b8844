"""The profiles of features that audits kept."""

from __future__ import annotations

from almanac.core.profile import Profile
from almanac.core.receipts import Door, Thing
from almanac.errors import NotFound
from almanac.store.home import Home
from almanac.store.objects import record

PROFILE = "profile.json"


def newest(home: Home, count: int) -> list[Profile]:
    """The profiles of the periods whose features were audited last and found good, so many of one definition; in the order of
    the periods.

    Raises:
        NotFound: there is none.
    """
    kept = home.objects.walk(home.layout.receipts(Thing.FEATURES.value, Door.AUDIT.value))
    found: dict[str, Profile] = {}
    definition = ""
    for item in sorted(kept, key=lambda item: item.modified, reverse=True):
        receipt = home.receipts.read(item.uri)
        order, profile = receipt.order, next((output for output in receipt.outputs if output.name == PROFILE), None)
        if not receipt.passed or profile is None or order.description != (definition or order.description):
            continue
        definition = order.description
        if order.period not in found:
            found[order.period] = record(Profile, home.objects.get(profile.uri), profile.uri)
        if len(found) == count:
            break
    if not found:
        raise NotFound(
            f"No features of {home.name!r} were audited yet, so there is no profile to draft checks from. Run "
            f"{home.name}_retrain once, with checks() that asks for nothing."
        )
    return [found[period] for period in sorted(found)]
