"""Spark's settings for many short jobs on one machine, as environment variables.

Most of a short job's cost is the start of its processes. Three things halve it: an archive of the classes that a job loads,
created once by running `first_job`; a compiler that does not optimise code that runs only briefly; and a home of Spark without
its zipped copy of pyspark.

The properties are passed in SPARK_SUBMIT_OPTS, not in a spark-defaults.conf: Spark puts SPARK_CONF_DIR on the JVM's class path,
and a JVM does not create (17) or use (21) a class archive if there is a folder on its class path.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from almanac.local.java import says
from almanac.local.processes import spawn, stop_leftovers

HERE = Path(__file__).resolve().parent
PROPERTIES = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "4",
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "100000",
    # Over TCP each task waits about 40 ms for the acknowledgement of a worker's message.
    "spark.python.unix.domain.socket.enabled": "true",
    # Records the user's source line with every column expression: thousands of calls into the JVM.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
}
SHORT_LIVED = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xlog:disable", "-Xlog:all=error:stderr")
LOG4J = """\
rootLogger.level = warn
rootLogger.appenderRef.stderr.ref = stderr
appender.stderr.type = Console
appender.stderr.name = stderr
appender.stderr.target = SYSTEM_ERR
appender.stderr.layout.type = PatternLayout
appender.stderr.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
# Logged at every start, and nothing can be done about it.
logger.native.name = org.apache.hadoop.util.NativeCodeLoader
logger.native.level = error
"""
ARCHIVE_SECONDS = 300


def environment(folder: Path, java_home: Path) -> dict[str, str]:
    """The variables with which `spark-submit` starts fast. Creates the class archive if there is none.

    `folder` holds the settings and the archive.
    """
    folder = folder.resolve()
    plain = _plain(folder, java_home)
    archive = _archive(folder, java_home, plain)
    if archive is None:
        return plain
    return {**plain, "SPARK_SUBMIT_OPTS": f"{plain['SPARK_SUBMIT_OPTS']} -XX:SharedArchiveFile={archive}"}


def _plain(folder: Path, java_home: Path) -> dict[str, str]:
    """The settings without an archive."""
    folder.mkdir(parents=True, exist_ok=True)
    log4j = folder / "log4j2.properties"
    log4j.write_text(LOG4J)
    properties = [f"-D{name}={value}" for name, value in PROPERTIES.items()]
    return {
        "JAVA_HOME": str(java_home),
        "SPARK_HOME": str(_home(folder / "home")),
        "SPARK_CONF_DIR": str(folder / "none"),  # never created: see above
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_LAUNCHER_OPTS": " ".join(SHORT_LIVED),
        "SPARK_SUBMIT_OPTS": " ".join((*SHORT_LIVED, *properties, f"-Dlog4j2.configurationFile={log4j.as_uri()}")),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }


def _home(home: Path) -> Path:
    """A home of Spark that links to the installed package, but lacks `python/lib/pyspark.zip`. Spark puts that first on the path
    of every Python process, and Python compiles a zip's modules again each time: a second and more for each of a job's processes.
    Without it they import the installed package, which is the same code.
    """
    home.mkdir(parents=True, exist_ok=True)
    for name in ("bin", "jars"):
        link, target = home / name, _pyspark() / name
        if not link.is_symlink() or link.readlink() != target:
            link.unlink(missing_ok=True)
            link.symlink_to(target)
    return home


def _pyspark() -> Path:
    """The folder of the installed package. It is not imported: whoever starts jobs needs none of it."""
    found = find_spec("pyspark")
    if found is None or found.origin is None:
        raise RuntimeError("The package pyspark is not installed. Install Almanac's requirements.")
    return Path(found.origin).parent


def _archive(folder: Path, java_home: Path, plain: Mapping[str, str]) -> str | None:
    """The value for -XX:SharedArchiveFile: the archives of exactly this Java and this Spark."""
    if any(character.isspace() for character in f"{folder}{plain['SPARK_HOME']}"):
        return None  # the options are split at spaces
    java = (java_home / "bin" / "java").read_bytes()[:4096]
    newest = max(file.stat().st_mtime_ns for file in Path(plain["SPARK_HOME"]).glob("jars/*.jar"))
    job = (HERE / "first_job.py").read_text()
    about = f"{says(java_home)}{java!r}{version('pyspark')}{plain['SPARK_HOME']}{newest}{job}"
    kept = folder / f"classes-{hashlib.sha256(about.encode()).hexdigest()[:12]}"
    base, top = kept / "java.jsa", kept / "spark.jsa"
    if not top.exists():
        for old in folder.glob("classes-*"):
            stop_leftovers(old)
            shutil.rmtree(old, ignore_errors=True)
        kept.mkdir(parents=True)
        try:
            _make(base, top, plain)
        except (OSError, subprocess.SubprocessError, RuntimeError) as error:
            warnings.warn(f"Could not create a class archive, so Spark jobs start more slowly ({error}).", stacklevel=3)
            return None
    return f"{base}:{top}"


def _make(base: Path, top: Path, plain: Mapping[str, str]) -> None:
    """Writes the archive of Java's own classes, which a small runtime lacks, then that of Spark's on top of it."""
    java = Path(plain["JAVA_HOME"]) / "bin" / "java"
    dump = [str(java), "-Xshare:dump", "-XX:+UseSerialGC", f"-XX:SharedArchiveFile={base}", "-Xlog:disable"]
    subprocess.run(dump, check=True, capture_output=True, timeout=ARCHIVE_SECONDS)
    draft = top.with_suffix(".new")
    options = f"{plain['SPARK_SUBMIT_OPTS']} -XX:SharedArchiveFile={base} -XX:ArchiveClassesAtExit={draft}"
    submit = [str(Path(plain["SPARK_HOME"]) / "bin" / "spark-submit"), "--master", "local[2]", str(HERE / "first_job.py")]
    run = spawn("first_job", submit, environment={**os.environ, **plain, "SPARK_SUBMIT_OPTS": options}, folder=top.parent)
    try:
        code = run.popen.wait(timeout=ARCHIVE_SECONDS)
    finally:
        run.stop()
    if code != 0 or not draft.exists():
        raise RuntimeError(f"the first job exited with {code}: {run.last_lines(3)}")
    draft.replace(top)
