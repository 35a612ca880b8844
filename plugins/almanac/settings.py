"""Settings: one frozen record, from the environment.

ALMANAC_ROOT           where everything is stored: s3://bucket/prefix
ALMANAC_SPARK_JOBS     the folder of the users' modules; spark_jobs beside plugins/ when not set
ALMANAC_SPARK_CONN     the Airflow connection to Spark; spark_default when not set
ALMANAC_POOL           the Airflow pool that bounds Spark jobs; spark when not set
ALMANAC_APPLICATIONS   shared: one Spark application builds and combines all feature groups, and one that stages also audits;
                       apart: each group and each audit has its own; shared when not set
ALMANAC_COMMIT         the commit of the code, for receipts; that of the checkout with the users' modules when not set
ALMANAC_SIGNING_KEY    the private key (a PEM file) that signs manifests on publish; nothing is signed when not set
ALMANAC_VERIFYING_KEY  the public key (a PEM file) that every version's signature must match; not checked when not set
ALMANAC_DELIVERY_NAME  the database address of the delivery NAME (upper case), for `almanac deliver` outside Airflow
ALMANAC_CONNECTION_ID  the database address of the connection ID (upper case, `_` for `-` and `.`), for sources in a database
                       outside Airflow

Credentials are not here: boto3, deltalake and pyarrow read AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and
AWS_ENDPOINT_URL themselves, or use the machine's role.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from almanac.errors import DescriptionError, StoreError

PACKAGE = Path(__file__).resolve().parent
VERSION = "0.1.0"
GARBAGE = 100_000  # new objects before a short process collects garbage; the default of 700 costs a fifth of its imports
PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=-]*")  # a folder of a root: URLs, keys and Delta logs read these characters alike


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where Almanac stores its data and finds user code. `spark_jobs` holds `NAME.py` for each pipeline."""

    root: str
    spark_jobs: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """The settings of this process.

        Raises:
            StoreError: ALMANAC_ROOT is missing, not an S3 URI, or has characters with a meaning in URLs.
        """
        env = os.environ if environment is None else environment
        root = env.get("ALMANAC_ROOT", "").rstrip("/")
        if not root.startswith("s3://") or len(root) < 6:
            raise StoreError(
                f"ALMANAC_ROOT: expected an S3 URI such as s3://bucket/almanac, got {repr(root) if root else 'nothing'}. Set it."
            )
        if wrong := [part for part in root.removeprefix("s3://").split("/") if not PART.fullmatch(part)]:
            raise StoreError(
                f"ALMANAC_ROOT: expected folders of letters, digits and _ . - = that do not begin with . - or =, got "
                f"{wrong[0]!r} in {root!r}. Tables are opened by URL, where other characters have a meaning. Choose another root."
            )
        return cls(root=root, spark_jobs=spark_jobs(env))


def spark_jobs(environment: Mapping[str, str] | None = None) -> Path:
    """The folder of the users' modules: ALMANAC_SPARK_JOBS, else `spark_jobs` of this checkout, or of the working directory."""
    env = os.environ if environment is None else environment
    ours = PACKAGE.parent.parent / "spark_jobs"
    return Path(env.get("ALMANAC_SPARK_JOBS") or (ours if ours.is_dir() else "spark_jobs"))


def commit() -> str:
    """ALMANAC_COMMIT if it is set, else the git commit of the checkout that the user's modules are in, else empty."""
    return os.environ.get("ALMANAC_COMMIT") or _checked_out(spark_jobs())


@functools.cache
def _checked_out(folder: Path) -> str:
    command = ["git", "rev-parse", "HEAD"]
    try:
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def spark_connection() -> str:
    """The Airflow connection to Spark."""
    return os.environ.get("ALMANAC_SPARK_CONN", "spark_default")


def pool() -> str:
    """The Airflow pool that bounds Spark jobs."""
    return os.environ.get("ALMANAC_POOL", "spark")


def shared_applications() -> bool:
    """Whether one Spark application builds and combines all feature groups, and one that stages an artifact also audits it.

    Raises:
        DescriptionError: ALMANAC_APPLICATIONS has a value that it does not take.
    """
    match os.environ.get("ALMANAC_APPLICATIONS", "") or "shared":
        case "shared":
            return True
        case "apart":
            return False
        case other:
            raise DescriptionError(
                f"ALMANAC_APPLICATIONS: expected shared or apart, got {other!r}. Set one of these, or nothing."
            )


def signing_key() -> Path | None:
    """The private key that signs the manifests of published versions, if there is one."""
    return _key("ALMANAC_SIGNING_KEY")


def verifying_key() -> Path | None:
    """The public key that the signature of every version in use must match, if there is one."""
    return _key("ALMANAC_VERIFYING_KEY")


def delivery_address(delivery: str) -> str:
    """The address of a delivery's database, for use outside Airflow.

    Raises:
        DescriptionError: it is not set.
    """
    name = f"ALMANAC_DELIVERY_{delivery.upper()}"
    return _address(name, f"delivery {delivery!r}", "let the DAG deliver, which uses Airflow's connection")


def connection_address(connection: str, _source: str = "") -> str:
    """The address of the database of a connection that a source names, for use outside Airflow. Inside, the source's name is told
    in errors.

    Raises:
        DescriptionError: it is not set.
    """
    name = f"ALMANAC_CONNECTION_{re.sub(r'[^A-Z0-9_]', '_', connection.upper())}"
    return _address(name, f"connection {connection!r}", "let the DAG read the source, which uses Airflow's connection")


def _address(name: str, what: str, instead: str) -> str:
    """The address of a database in an environment variable. Raises: DescriptionError, if it is not set."""
    if not (found := os.environ.get(name, "").strip()):
        raise DescriptionError(
            f"{name}: expected the address of the database of {what}, such as postgresql://user:password@host:5432/database, got "
            f"nothing. Set it, or {instead}."
        )
    return found


def _key(name: str) -> Path | None:
    found = os.environ.get(name, "").strip()
    return Path(found) if found else None
