"""The Spark session of a build, and the settings under which values come through as they are."""

from __future__ import annotations

import importlib
import os
import re
import shutil
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from featurestore.errors import InvalidRequest, StoreUnavailable

__all__ = ["configured", "read_parquet", "session"]

# Each is put back after a build: the session is the caller's.
_SETTINGS: Final = {
    "spark.sql.ansi.enabled": "true",
    "spark.sql.caseSensitive": "true",
    "spark.sql.session.timeZone": "UTC",
    # By default Spark writes times in the form that Parquet has given up.
    "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
    "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
    "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.int96RebaseModeInRead": "CORRECTED",
    "spark.sql.parquet.inferTimestampNTZ.enabled": "true",
    "spark.sql.parquet.binaryAsString": "false",
    "spark.sql.parquet.writeLegacyFormat": "false",
    # Spark has no nanoseconds; as numbers they come through whole.
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    # A file that is gone must fail the build, not shorten the history.
    "spark.sql.files.ignoreMissingFiles": "false",
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.maxRecordsPerFile": "0",
}
_GLOB: Final = re.compile(r"([\[\]{}*?\\])")
_SHOWN: Final = 400


def session(spark: Any | None = None) -> Any:
    """Return the session to build with: the given one, the active one, or a new one.

    A new one goes where `SPARK_REMOTE` or Spark's own settings say; without any, it runs on all
    processors of this machine.

    Raises:
        InvalidRequest: pyspark is not installed, or it finds no Java.
    """
    if spark is not None:
        return spark
    try:
        sql = importlib.import_module("pyspark.sql")
    except ModuleNotFoundError:
        raise InvalidRequest(
            "engine='spark' needs pyspark and Java 17 or later: pip install 'featureline[spark]'"
        ) from None
    active = sql.SparkSession.getActiveSession()
    if active is not None:
        return active
    errors = importlib.import_module("pyspark.errors")
    builder = sql.SparkSession.builder.appName("featureline")
    for name in ("spark.ui.enabled", "spark.ui.showConsoleProgress"):
        builder = builder.config(name, "false")
    try:
        return builder.getOrCreate()
    except (errors.PySparkRuntimeError, FileNotFoundError) as error:
        raise InvalidRequest(
            f"engine='spark': Spark does not start; {_missing()}: {error}"
        ) from error


def _missing() -> str:
    java = "JAVA_HOME" in os.environ or shutil.which("java") is not None
    if java and not {"SPARK_LOCAL_HOSTNAME", "SPARK_LOCAL_IP"} & os.environ.keys():
        name = socket.gethostname()
        try:
            socket.getaddrinfo(name, None)
        except OSError:
            return (
                f"the name of this machine, {name!r}, has no address: set SPARK_LOCAL_IP to "
                "127.0.0.1, or to what Spark's other machines reach this one by"
            )
    return "it needs Java 17 or later, by JAVA_HOME or on the PATH"


@contextmanager
def configured(spark: Any) -> Iterator[None]:
    """Set what the join relies on, put it back after, and say what failed.

    Raises:
        StoreUnavailable: Spark could not finish.
    """
    failures = (
        importlib.import_module("pyspark.errors").PySparkException,
        importlib.import_module("py4j.protocol").Py4JError,
    )
    before = {name: spark.conf.get(name, None) for name in _SETTINGS}
    try:
        for name, value in _SETTINGS.items():
            spark.conf.set(name, value)
        yield
    except failures as error:
        text = str(error)
        shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]} …"
        raise StoreUnavailable(f"engine='spark': the join did not finish: {shown}") from error
    finally:
        for name, value in before.items():
            if value is None:
                spark.conf.unset(name)
            else:
                spark.conf.set(name, value)


def read_parquet(spark: Any, files: Sequence[str], schema: str | None = None) -> Any:
    """Read Parquet files, named by paths or uris, as one DataFrame.

    Args:
        spark: the session.
        files: at least one; `s3://` is read by Hadoop's `s3a`.
        schema: names and SQL types; a column that a file lacks is null in its rows. None: that of
            the files.
    """
    reader = spark.read
    if schema is not None:
        reader = reader.schema(schema)
    # Spark takes brackets and stars in a path for a pattern.
    paths = (re.sub(r"\As3://", "s3a://", file) for file in files)
    return reader.parquet(*(_GLOB.sub(r"\\\1", path) for path in paths))
