"""Connections to PostgreSQL for reading, and what its errors mean for a source. No message contains a password."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg

from almanac.core.relations import Relation, Table
from almanac.errors import AccessRefused, DescriptionError, SourceError, SourceMissing, StoreError, Unreachable

CONNECT_SECONDS = 10
LOCK_SECONDS = 600.0
# With a / or @ that is not percent-encoded, a part of a password would be read as host, port or database, and told as such.
# Cancelled, by a user or statement_timeout; idle_in_transaction_session_timeout; transaction_timeout.
STOPPED = ("57014", "25P03", "25P04")
ADDRESS = re.compile(r"postgres(ql)?://([^/?@]*@)?[^/?@]*(/[^/?@]*)?(\?.*)?")
SECRETS = ("password", "sslpassword")
# Local to each transaction: a pooler may give the next one to another session.
SETTINGS = {
    "timezone": "UTC",
    "datestyle": "ISO, YMD",
    "extra_float_digits": "3",  # every digit that a number needs, also before PostgreSQL 12
    "bytea_output": "hex",
    "search_path": "pg_catalog, public",
    "standard_conforming_strings": "on",
}


@dataclass(frozen=True, slots=True)
class Session:
    """A connection, with what messages say of it. `source`: its name."""

    connection: psycopg.Connection
    source: str
    relation: Relation
    secrets: tuple[str, ...]

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction of one snapshot that can only read, with the settings that the text of values depends on.

        REPEATABLE READ, because all statements are to see one state. SERIALIZABLE READ ONLY DEFERRABLE could wait for ever on a
        busy server, and a standby does not have it; what it adds matters where a result is written back.
        """
        self.connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        self.connection.read_only = True
        with self.connection.transaction():
            # SET and LOCK TABLE take no snapshot: the first SELECT does.
            for name, value in SETTINGS.items():
                self.connection.execute(f"SET LOCAL {name} = {value if name == 'search_path' else repr(value)}".encode())
            self.connection.execute(f"SET LOCAL lock_timeout = {int(LOCK_SECONDS * 1000)}".encode())
            yield

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Errors of the database as Almanac's.

        Raises:
            SourceMissing: the table is not there. AccessRefused: the user may not read it.
            Unreachable: the connection was lost. StoreError: the database stopped the copy; another try may help.
            SourceError: it refused the statement.
        """
        try:
            yield
        except psycopg.Error as error:
            raise self._as_ours(error) from error

    def _as_ours(self, error: psycopg.Error) -> Exception:
        kinds, what, why = psycopg.errors, f"Source {self.source!r}", masked(first_line(error), self.secrets)
        match error:
            case kinds.UndefinedTable() | kinds.InvalidSchemaName():
                return SourceMissing(
                    f"{what} is missing: the database has not all that {self.relation} reads ({why}). Names are matched "
                    "including case; a query names tables of other schemas than public with their schema. Create it, or correct "
                    "the source."
                )
            case kinds.InsufficientPrivilege():
                grant = f"GRANT SELECT ON {self.relation.schema}.{self.relation.name}" if isinstance(self.relation, Table) else ""
                return AccessRefused(
                    f"{what}: the database does not let the connection's user read {self.relation} ({why}). Grant it, for "
                    f"example with {grant or 'GRANT SELECT ON each table of the query'}, and USAGE on the schema."
                )
            case kinds.LockNotAvailable():
                return StoreError(
                    f"{what}: another session has locked what {self.relation} reads for {LOCK_SECONDS:g} seconds. Nothing "
                    "was copied. Find the session in pg_locks, and try again when it has ended."
                )
            case _ if error.sqlstate in STOPPED:
                return StoreError(
                    f"{what}: the database stopped the copy of {self.relation} ({why}). Nothing was copied. Try again; if it was "
                    "a timeout, raise statement_timeout for the connection's user, or read fewer columns or rows."
                )
            case kinds.SerializationFailure() | kinds.DeadlockDetected():
                return StoreError(
                    f"{what}: the database gave up the copy of {self.relation} because of other transactions ({why}). Nothing "
                    "was copied. Try again; on a standby, raise max_standby_streaming_delay or set hot_standby_feedback."
                )
            case kinds.ObjectNotInPrerequisiteState():
                return SourceError(
                    f"{what}: the database cannot read {self.relation} yet ({why}). Nothing was copied. A materialized view "
                    "needs REFRESH MATERIALIZED VIEW first."
                )
            case kinds.ProtocolViolation():
                return SourceError(
                    f"{what}: the server's answer about {self.relation} is not PostgreSQL's protocol ({why}). Check the host and "
                    "the port of the connection, and a pooler between them."
                )
            case psycopg.OperationalError():
                kind = Unreachable if self.connection.broken or self.connection.closed else StoreError
                return kind(f"{what}: the database stopped the copy of {self.relation} ({why}). Nothing was copied. Try again.")
        return SourceError(
            f"{what}: the database refused to read {self.relation} ({why}). Nothing was copied. Correct the "
            f"{'table' if isinstance(self.relation, Table) else 'query'}; run it by hand to see where it fails."
        )


@contextmanager
def opened(source: str, relation: Relation, address: str) -> Iterator[Session]:
    """A session. `address`: the database's URI, with its credentials.

    Raises:
        DescriptionError: the address is not valid. Unreachable: the database does not answer, or refuses the user.
    """
    try:
        if not ADDRESS.fullmatch(address):
            raise psycopg.ProgrammingError
        known = psycopg.conninfo.conninfo_to_dict(address)
    except (psycopg.ProgrammingError, ValueError):
        # psycopg's own message would show the address, including the password.
        raise DescriptionError(
            f"Source {source!r}: the address of its database is not valid. Expected a URI such as "
            "postgresql://user:password@host:5432/database, with special characters percent-encoded."
        ) from None
    secrets = tuple(str(known[name]) for name in SECRETS if known.get(name))
    try:
        connection = psycopg.connect(
            address,
            autocommit=True,
            connect_timeout=CONNECT_SECONDS,
            application_name="almanac",
            client_encoding="utf8",
            prepare_threshold=None,  # poolers lose prepared statements
        )
    except psycopg.OperationalError as error:
        raise Unreachable(
            f"Source {source!r}: the database does not answer, or refuses the user ({masked(first_line(error), secrets)}). "
            "Nothing was copied. Check the source's connection and the server."
        ) from None
    with connection:
        yield Session(connection, source, relation, secrets)


def masked(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


def first_line(error: psycopg.Error) -> str:
    return (error.diag.message_primary or str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
