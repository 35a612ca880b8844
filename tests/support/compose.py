"""What must hold between docker-compose.yml, the files beside it and the project: functions that list what does not.

No Docker engine is needed. Each takes the project as `Deployment` and gives sentences; an empty list is good news.
Compose itself is not asked, so `load` follows only the syntax that these files use.
"""

from __future__ import annotations

import ast
import fnmatch
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

PROJECT = Path(__file__).resolve().parents[2]
VARIABLE = re.compile(r"\$\{(\w+)(?:(:?[-?])([^}]*))?\}")
SECRET = re.compile(r"PASSWORD$|SECRET|_KEY(_ID)?$|TOKEN")
PINNED = re.compile(r"^([\w.-]+)==(\S+)", re.MULTILINE)

# Whom a person may reach from the host, and at which port of the container. Everything else has weaker doors.
PUBLISHED = {"airflow-api-server": 8080, "seaweedfs": 8333}
# What the images that are not ours bring; ours is looked at in its Dockerfile and in this environment.
FOREIGN_BINARIES = {"postgres": {"pg_isready"}, "chrislusf/seaweedfs": {"wget"}}
# What the S3 libraries read by themselves: botocore, object_store (deltalake), Arrow's C++.
S3_NAMES = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """The files as text, so that a test can break a copy."""

    compose: str
    overrides: dict[str, str]
    dockerfile: str
    ignored: str
    example: str
    healthy: str

    @classmethod
    def of_project(cls) -> Deployment:
        return cls(
            compose=(PROJECT / "docker-compose.yml").read_text(),
            overrides={path.name: path.read_text() for path in sorted((PROJECT / "deploy").glob("compose.*.yml"))},
            dockerfile=(PROJECT / "Dockerfile").read_text(),
            ignored=(PROJECT / ".dockerignore").read_text(),
            example=(PROJECT / ".env.example").read_text(),
            healthy=(PROJECT / "deploy" / "healthy.py").read_text(),
        )

    @property
    def services(self) -> dict[str, dict[str, Any]]:
        services: dict[str, dict[str, Any]] = load(self.compose)["services"]
        return services

    @property
    def texts(self) -> dict[str, str]:
        return {"docker-compose.yml": self.compose, **self.overrides}


def load(text: str) -> dict[str, Any]:
    """The file with every variable at its default, or `given` where it has none, and `$$` as `$`."""
    filled = VARIABLE.sub(lambda found: found[3] if found[2] in (":-", "-") else "given", text)
    read: dict[str, Any] = yaml.safe_load(filled.replace("$$", "$"))
    return read


def is_ours(service: dict[str, Any]) -> bool:
    return "build" in service


def is_one_shot(service: dict[str, Any]) -> bool:
    return service.get("restart") == "no"


def flag(command: list[str], name: str) -> str:
    """The value of `name=value` or `name value` in a command; empty when it is not there."""
    for word, after in zip(command, [*command[1:], ""], strict=True):
        if word == name:
            return after
        if word.startswith(f"{name}="):
            return word.partition("=")[2]
    return ""


def listens(service: dict[str, Any]) -> set[int]:
    """The ports that other containers can reach, by the service's own command; Airflow's are its defaults."""
    if service["image"].startswith("postgres:"):
        return {5432}
    command: list[str] = service.get("command", [])
    if command[:1] == ["server"] and flag(command, "-s3.ip.bind") == "0.0.0.0":
        return {int(flag(command, "-s3.port"))}
    if command[:2] == ["airflow", "api-server"]:
        return {8080}
    return {int(port) for name in ("--port", "--webui-port") if (port := flag(command, name))}


def variables(project: Deployment) -> list[str]:
    """Every variable of the compose files is in .env.example and the other way round; the example gives no values."""
    used = {found[1] for text in project.texts.values() for found in VARIABLE.finditer(text)}
    stripped = {name: VARIABLE.sub("", text).replace("$$", "") for name, text in project.texts.items()}
    lines = [line for line in project.example.splitlines() if line and not line.startswith("#")]
    listed = {line.partition("=")[0] for line in lines}
    return [
        *(f"{name} is used, but not in .env.example" for name in sorted(used - listed)),
        *(f"{name} is in .env.example, but not used" for name in sorted(listed - used)),
        *(f".env.example gives {line.partition('=')[0]} a value" for line in lines if not line.endswith("=")),
        *(f"{name}: a $ that is no ${{NAME}}" for name, text in stripped.items() if "$" in text),
    ]


def secrets(project: Deployment) -> list[str]:
    """No secret has a default, none is written down, and none is missing without a word."""
    problems = []
    for text in project.texts.values():
        for name, operator, rest in VARIABLE.findall(text):
            if SECRET.search(name) and (operator != ":?" or rest != f"set {name} in .env"):
                problems.append(f"{name} is a secret: write ${{{name}:?set {name} in .env}}")
        for name, value in re.findall(r"^\s+(\w+): ([^\s*].*)$", text, re.MULTILINE):
            if SECRET.search(name) and not VARIABLE.fullmatch(value):
                problems.append(f"{name} is a secret, but its value is written down")
        for password in re.findall(r"://[\w-]+:([^@\s]+)@", text):
            if not VARIABLE.fullmatch(password):
                problems.append(f"a URL has the password {password!r} in it")
    return problems


def ports(project: Deployment) -> list[str]:
    """Only what `PUBLISHED` lists is published, on 127.0.0.1 unless told otherwise, and it is listened on."""
    problems = []
    for name, service in project.services.items():
        targets = []
        for published in service.get("ports", []):
            address, _, target = published.rsplit(":", 2)
            targets.append(int(target))
            if address != "127.0.0.1":
                problems.append(f"{name} is published on {address}")
            if int(target) not in listens(service):
                problems.append(f"{name} publishes {target}, but listens on {sorted(listens(service))}")
        if targets != [port for service_name, port in PUBLISHED.items() if service_name == name]:
            problems.append(f"{name} publishes {targets}")
        if service.get("network_mode") == "host":
            problems.append(f"{name} is on the host's network: every port is published")
    return problems


def addresses(project: Deployment) -> list[str]:
    """A service that is called by name exists, listens on that port and shares a network with whoever calls it."""
    services = project.services
    problems = []
    asked = {f"healthy.py: {key}": value for key, value in health_addresses(project).items()}
    for name, service in services.items():
        words = [*(service.get("environment") or {}).values(), *service.get("command", [])]
        asked.update({f"{name}: {word}": word for word in map(str, words)})
    for where, text in asked.items():
        for host, port in re.findall(r"(?:://|@)([a-z][\w-]*):(\d+)", text):
            if host == "localhost":
                continue  # as seen from a browser on the host
            caller = services.get(where.partition(":")[0], {})
            if host not in services:
                problems.append(f"{where}: there is no service {host}")
            elif int(port) not in listens(services[host]):
                problems.append(f"{where}: {host} does not listen on {port}")
            elif caller and not set(caller["networks"]) & set(services[host]["networks"]):
                problems.append(f"{where}: {host} is on no network of the caller")
    return problems


def health_addresses(project: Deployment) -> dict[str, str]:
    """The URLs that deploy/healthy.py asks, by the name of their constant."""
    return {
        target.id: ast.literal_eval(statement.value)
        for statement in ast.parse(project.healthy).body
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
        for target in statement.targets
        if isinstance(target, ast.Name)
    }


def health_checks(project: Deployment) -> list[str]:
    """Every service that is to stay has a health check that its image can run; conditions can come true."""
    services, problems = project.services, []
    known = set(re.findall(r'^    "([\w-]+)": ', project.healthy, re.MULTILINE))
    for name, service in services.items():
        test = service.get("healthcheck", {}).get("test", [])
        if is_one_shot(service):
            if test:
                problems.append(f"{name} ends by itself: a health check says nothing of it")
        elif not test or test[0] != "CMD":
            problems.append(f"{name} has no health check of the form CMD")
        elif is_ours(service):
            asked = name.removeprefix("airflow-")
            if test[1:] != ["python", "/opt/almanac/deploy/healthy.py", asked] or asked not in known:
                problems.append(f"{name}: the health check {test[1:]} does not ask healthy.py for {asked}")
        elif test[1] not in FOREIGN_BINARIES[service["image"].rpartition(":")[0]]:
            problems.append(f"{name}: its image has no {test[1]}")
        if service.get("restart") not in ("no", "unless-stopped"):
            problems.append(f"{name} has no restart policy")
        for needed, condition in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if is_one_shot(services[needed]) else "service_healthy"
            if condition["condition"] != wanted:
                problems.append(f"{name} waits for {needed} to be {condition['condition']}, which is not {wanted}")
    return problems


def is_ignored(path: str, patterns: str) -> bool:
    """Docker's rule: the last pattern that matches the path or a folder above it decides."""
    parts, ignored = path.split("/"), False
    above = ["/".join(parts[: end + 1]) for end in range(len(parts))]
    for line in patterns.splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            anywhere, deep = pattern.removeprefix("**/"), pattern.startswith("**/")
            names = parts if deep else [one for one in above if one.count("/") == pattern.count("/")]
            if any(fnmatch.fnmatchcase(one, anywhere) for one in names):
                ignored = not line.startswith("!")
    return ignored


def image_paths(project: Deployment) -> tuple[dict[str, str], list[str]]:
    """What the Dockerfile copies, image path to project path, and what is wrong with that."""
    copied, problems = {}, []
    for line in re.findall(r"^COPY (.+)$", project.dockerfile, re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            place = f"{target.rstrip('/')}/{Path(source).name}" if target.endswith("/") else target
            copied["/opt/almanac/" + place.removeprefix("./")] = source
            if not (PROJECT / source).exists():
                problems.append(f"Dockerfile copies {source}, which does not exist")
            if is_ignored(source, project.ignored):
                problems.append(f"Dockerfile copies {source}, which .dockerignore leaves out")
    return copied, problems


def paths(project: Deployment) -> list[str]:
    """What is copied or mounted exists; what is spoken of is in the image; volumes are declared and used."""
    copied, problems = image_paths(project)
    spoken = re.findall(r"/opt/almanac/[\w./-]+", project.compose + project.dockerfile)
    for path in sorted(set(spoken)):
        below = [(place, source) for place, source in copied.items() if f"{path}/".startswith(f"{place}/")]
        if not any((PROJECT / (source + path.removeprefix(place))).exists() for place, source in below):
            problems.append(f"{path} is not in the image")
    kept_out = (".env", ".git")
    problems += [f".dockerignore lets {path} in" for path in kept_out if not is_ignored(path, project.ignored)]
    owned = re.findall(r"/opt/airflow/\w+", "".join(re.findall(r"install .+", project.dockerfile)))
    mounted = set()
    for name, service in project.services.items():
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            mounted.add(source)
            if source.startswith((".", "/")) and not (PROJECT / source).exists():
                problems.append(f"{name} mounts {source}, which does not exist")
            if is_ours(service) and target not in owned:
                problems.append(f"{name} mounts on {target}, which the image does not give to its user")
    declared = set(load(project.compose)["volumes"])
    return [*problems, *(f"volume {name} is declared or mounted, not both" for name in sorted(declared ^ mounted))]


def names(project: Deployment) -> list[str]:
    """Every ALMANAC_* and AWS_* that a container is given is read by the project or its S3 libraries."""
    files = [path for room in ("plugins", "dags", "spark_jobs") for path in (PROJECT / room).rglob("*.py")]
    known = S3_NAMES | {name for path in files for name in re.findall(r"\bALMANAC_[A-Z_]+", path.read_text())}
    known |= set(re.findall(r'"(ALMANAC_\w+)"', (PROJECT / "deploy" / "prepare.py").read_text()))
    driver = project.services["airflow-scheduler"]["environment"]
    asked = re.findall(r"\$\{env:(\w+)\}", (PROJECT / "deploy" / "spark" / "spark-defaults.conf").read_text())
    return [
        *(f"spark-defaults.conf asks for {name}, which no driver is given" for name in asked if name not in driver),
        *(
            f"{service}: nothing reads {name}"
            for service, described in project.services.items()
            for name in described.get("environment", {})
            if name.startswith(("ALMANAC_", "AWS_")) and name not in known
        ),
    ]


def packages(project: Deployment) -> list[str]:
    """The database driver of the URL is installed, pinned, at no other version than the rest; one pyspark; Java 17."""
    problems = []
    main = dict(PINNED.findall((PROJECT / "requirements.txt").read_text()))
    driver_file = "deploy/requirements-postgres.txt"
    drivers = dict(PINNED.findall((PROJECT / driver_file).read_text()))
    problems += [f"{name} has two versions" for name in drivers if main.get(name, drivers[name]) != drivers[name]]
    for scheme in re.findall(r"postgresql\+(\w+)://", project.compose):
        problems += [] if f"{scheme}-binary" in drivers or scheme in drivers else [f"{scheme} is not installed"]
    problems += [] if "asyncpg" in drivers else ["asyncpg is not installed: Airflow's API server asks through it"]
    problems += [] if main["pyspark"] == main["pyspark-client"] else ["pyspark and pyspark-client differ"]
    for wanted in (
        "openjdk-17-jre-headless",
        "-bookworm",
        "-r requirements.txt",
        f"-r {driver_file}",
        "--no-deps -e .",
    ):
        problems += [] if wanted in project.dockerfile else [f"Dockerfile has no {wanted}"]
    ends_as = project.dockerfile.rstrip().splitlines()[-1]
    return [*problems, *([] if ends_as == "USER almanac" else ["the image does not end as a user that is not root"])]
