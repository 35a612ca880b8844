"""Writes .env from .env.example with fresh secrets: `python3 deploy/new_env.py`. Needs only Python."""

from __future__ import annotations

import base64
import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent

# Hexadecimal where a value becomes part of a URL; a Fernet key is 32 bytes in URL-safe base64.
SECRETS: dict[str, Callable[[], str]] = {
    "POSTGRES_PASSWORD": lambda: secrets.token_hex(24),
    "AIRFLOW_ADMIN_PASSWORD": lambda: secrets.token_hex(12),
    "AIRFLOW_FERNET_KEY": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    "AIRFLOW_JWT_SECRET": lambda: secrets.token_hex(32),
    "AIRFLOW_API_SECRET_KEY": lambda: secrets.token_hex(32),
    "AWS_ACCESS_KEY_ID": lambda: secrets.token_hex(10),
    "AWS_SECRET_ACCESS_KEY": lambda: secrets.token_hex(20),
}


def fill(example: str) -> str:
    """The example with a fresh value for every secret; variables with a default stay empty."""
    lines = []
    for line in example.splitlines():
        name, equals, value = line.partition("=")
        lines.append(f"{name}={SECRETS[name]()}" if equals and not value and name in SECRETS else line)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    target = PROJECT / ".env"
    text = fill((PROJECT / ".env.example").read_text())
    try:
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except FileExistsError:
        sys.exit(".env exists, and the volumes were created with its secrets. Move it away first if you want new ones.")
    print("Wrote .env. Its AIRFLOW_ADMIN_PASSWORD is the password of Airflow's user admin.")
