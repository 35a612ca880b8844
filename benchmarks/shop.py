"""The demo's shop with many times its households, for `make bench-retrain`.

Each copy of a household has an id of its own, and buys and lives as the household does. Products are the same for all.
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

HOUSEHOLD, TIME = "household_id", "transaction_timestamp"
STEP = 10_000  # between the ids of a household's copies; the ids of the data set are below it


def copied(rows: pa.Table, times: int) -> pa.Table:
    """The rows of all copies, in the order of time if they have one; the same rows if they have no household."""
    if HOUSEHOLD not in rows.column_names or times == 1:
        return rows
    place = rows.schema.get_field_index(HOUSEHOLD)
    copies = [rows.set_column(place, HOUSEHOLD, pc.add(rows[HOUSEHOLD], number * STEP)) for number in range(times)]
    found = pa.concat_tables(copies)
    return found.sort_by([(TIME, "ascending"), (HOUSEHOLD, "ascending")]) if TIME in rows.column_names else found
