"""Settings: one frozen record, from the environment.

ALMANAC_ROOT           where everything is kept: s3://bucket/prefix
ALMANAC_SPARK_JOBS     the folder of the users' modules and of steps/; beside plugins/ when not set
ALMANAC_SPARK_CONN     the Airflow connection of Spark; spark_default
ALMANAC_POOL           the Airflow pool that bounds Spark jobs; spark
ALMANAC_SIGNING_KEY    a PEM file, private: who publishes a version signs its manifest; none, and nothing is signed
ALMANAC_VERIFYING_KEY  a PEM file, public: no version is used whose manifest it did not sign; none, and none is asked for
ALMANAC_DELIVERY_NAME  the address of the database of the delivery NAME, in capitals, for `almanac deliver` outside Airflow

Credentials are not here: boto3, deltalake and pyarrow read AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and
AWS_ENDPOINT_URL themselves, or use the machine's role.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from almanac.errors import DescriptionError, StoreError

PACKAGE = Path(__file__).resolve().parent
VERSION = "0.1.0"
GARBAGE = 100_000  # new objects before a short process looks for garbage; 700 unless told otherwise, a fifth of its imports
PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.=-]*")  # of a root: what a URL, a key and a Delta log all read alike


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where things are. `spark_jobs` holds `NAME.py` for each pipeline and `steps/`."""

    root: str
    spark_jobs: Path

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """The settings of this process.

        Raises:
            StoreError: ALMANAC_ROOT is missing, not an S3 URI, or has signs that a URL reads otherwise.
        """
        env = os.environ if environment is None else environment
        root = env.get("ALMANAC_ROOT", "").rstrip("/")
        if not root.startswith("s3://") or len(root) < 6:
            raise StoreError(
                f"ALMANAC_ROOT: found {root or 'nothing'}, allowed is an S3 URI such as s3://bucket/almanac. Set it."
            )
        if wrong := [part for part in root.removeprefix("s3://").split("/") if not PART.fullmatch(part)]:
            raise StoreError(
                f"ALMANAC_ROOT: expected folders of letters, digits and the signs _ . - = that begin with none of . - =, got "
                f"{wrong[0]!r} in {root!r}. Tables are opened by URL, where other signs mean other places. Choose another root."
            )
        return cls(
            root=root,
            spark_jobs=Path(env.get("ALMANAC_SPARK_JOBS") or PACKAGE.parent.parent / "spark_jobs"),
        )


def spark_connection() -> str:
    """The Airflow connection of Spark."""
    return os.environ.get("ALMANAC_SPARK_CONN", "spark_default")


def pool() -> str:
    """The Airflow pool that bounds Spark jobs."""
    return os.environ.get("ALMANAC_POOL", "spark")


def signing_key() -> Path | None:
    """The private key that signs the manifests of published versions, if there is one."""
    return _key("ALMANAC_SIGNING_KEY")


def verifying_key() -> Path | None:
    """The public key whose signature every used version must have, if there is one."""
    return _key("ALMANAC_VERIFYING_KEY")


def delivery_address(delivery: str) -> str:
    """The address of a delivery's database, where no Airflow knows it.

    Raises:
        DescriptionError: it is not set.
    """
    name = f"ALMANAC_DELIVERY_{delivery.upper()}"
    if not (found := os.environ.get(name, "").strip()):
        raise DescriptionError(
            f"{name}: found nothing, allowed is the address of the database of delivery {delivery!r}, such as "
            "postgresql://user:password@host:5432/database. Set it, or let the DAG deliver, which asks Airflow's connection."
        )
    return found


def _key(name: str) -> Path | None:
    found = os.environ.get(name, "").strip()
    return Path(found) if found else None
