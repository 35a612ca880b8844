"""Asks the installed Airflow about the compose file, in a process of its own: `ask_airflow.py < QUESTIONS > ANSWERS`.

Importing Airflow reads its settings once for all, so the tests' own process must not do it. Questions: `commands`,
`environments` by service. Answers: a list of sentences; an empty one is good news.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from typing import Any

from airflow.cli import cli_parser
from airflow.configuration import conf
from airflow.models.connection import Connection

OPTION = re.compile(r"AIRFLOW__([A-Z0-9_]+?)__([A-Z0-9_]+)")


def unknown_commands(commands: list[list[str]]) -> list[str]:
    parser, problems = cli_parser.get_parser(), []
    for command in commands:
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
                parser.parse_args(command[1:])
        except SystemExit:
            problems.append(f"airflow does not understand {' '.join(command)}")
    return problems


def unknown_options(environments: dict[str, dict[str, str]]) -> list[str]:
    known: dict[str, Any] = conf.configuration_description
    problems = []
    for service, environment in environments.items():
        for name, value in environment.items():
            if found := OPTION.fullmatch(name):
                section, key = found[1].lower(), found[2].lower()
                if key not in known.get(section, {}).get("options", {}):
                    problems.append(f"{service}: Airflow has no option [{section}] {key}")
            elif name.startswith("AIRFLOW_CONN_"):
                connection = Connection.from_json(value, conn_id=name.removeprefix("AIRFLOW_CONN_").lower())
                if connection.conn_type != "spark" or not str(connection.host).startswith("spark://"):
                    problems.append(f"{service}: {name} is no Spark connection")
    return problems


def other_defaults() -> list[str]:
    """The ports that the compose file and deploy/healthy.py take for Airflow's own."""
    expected = {("api", "port"): "8080", ("scheduler", "scheduler_health_check_server_port"): "8974"}
    return [
        f"[{section}] {key} is {conf.get(section, key)} by default, not {port}"
        for (section, key), port in expected.items()
        if conf.get(section, key) != port
    ]


if __name__ == "__main__":
    questions = json.load(sys.stdin)
    problems = [
        *unknown_commands(questions["commands"]),
        *unknown_options(questions["environments"]),
        *other_defaults(),
    ]
    print(json.dumps(problems))
