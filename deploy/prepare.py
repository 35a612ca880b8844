"""Prepares what Airflow's own commands cannot: the login and the bucket. airflow-init runs it; safe to repeat."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import boto3
from botocore.exceptions import ClientError


def write_passwords(path: Path, password: str) -> None:
    """Writes the file that Airflow's simple auth manager reads at each login; without it, Airflow invents a password."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump({"admin": password}, file)
    new.replace(path)  # atomic: a login sees the old file or the new one


def ensure_bucket(bucket: str, endpoint: str) -> str:
    """Finds the bucket, or creates it, but never on AWS, where a mistyped name would become a bucket.

    Raises:
        SystemExit: the bucket cannot be read with these keys, or is missing on AWS.
    """
    s3 = boto3.Session().client("s3", endpoint_url=endpoint)
    try:
        s3.head_bucket(Bucket=bucket)
        return "found"
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status != 404:
            raise SystemExit(
                f"Bucket {bucket!r} at {endpoint} answered {status}. Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, "
                "AWS_REGION and the permissions of that user."
            ) from error
    if (urlsplit(endpoint).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn")):
        raise SystemExit(f"Bucket {bucket!r} does not exist. Create it on AWS, or correct ALMANAC_BUCKET.")
    s3.create_bucket(Bucket=bucket)
    return "created"


if __name__ == "__main__":
    passwords = Path(os.environ["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE"])
    write_passwords(passwords, os.environ["AIRFLOW_ADMIN_PASSWORD"])
    print("login: admin, with AIRFLOW_ADMIN_PASSWORD")
    print("bucket:", ensure_bucket(os.environ["ALMANAC_BUCKET"], os.environ["AWS_ENDPOINT_URL"]))
