"""Addresses of databases, from Airflow's connections. An address has the password: it stays in the process that asks for it.

Only running tasks import this module; DAG parsing does not.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote, urlencode

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from almanac.errors import DescriptionError

TYPES = ("postgres", "postgresql")
# The keys of a connection's extra that libpq knows; the rest is for Airflow's hooks.
LIBPQ = (
    "application_name",
    "channel_binding",
    "gssencmode",
    "keepalives_idle",
    "options",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "target_session_attrs",
)


def address_of(connection: str, needed_by: str, named_in: str) -> str:
    """The URI of the database of an Airflow connection.

    Args:
        connection: its id.
        needed_by: what needs it, for messages, such as `source 'visits'`.
        named_in: where the description names it, such as `PostgresDelivery(connection=...)`.

    Raises:
        DescriptionError: Airflow has no such connection, or it is not a PostgreSQL connection.
    """
    try:
        found = BaseHook.get_connection(connection)
    except AirflowNotFoundException:
        raise DescriptionError(
            f"Airflow has no connection {connection!r}, which {needed_by} needs. Add it, for example with "
            f"AIRFLOW_CONN_{connection.upper()}='postgresql://user:password@host:5432/database', or name another connection in "
            f"{named_in}."
        ) from None
    if found.conn_type not in TYPES:
        raise DescriptionError(
            f"Airflow's connection {connection!r} of {needed_by}: expected type 'postgres', got {found.conn_type!r}. "
            f"Change its type, or name another connection in {named_in}."
        )
    return uri_of(found)


def uri_of(connection: Any) -> str:
    """The database URI of an Airflow connection, with its parts percent-encoded."""
    login = quote(connection.login or "", safe="")
    password = f":{quote(connection.password, safe='')}" if connection.password else ""
    host = connection.host or ""
    host = f"[{host}]" if ":" in host and not host.startswith("[") else quote(host, safe="[]:")
    port = f":{connection.port}" if connection.port else ""
    extra = json.loads(connection.extra) if connection.extra else {}
    more = {key: str(extra[key]) for key in LIBPQ if extra.get(key) not in (None, "")}
    query = f"?{urlencode(more, quote_via=quote)}" if more else ""
    user = f"{login}{password}@" if login or password else ""
    return f"postgresql://{user}{host}{port}/{quote(connection.schema or '', safe='')}{query}"
