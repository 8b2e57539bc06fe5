"""What OpenLineage's names are called here: uris of datasets, uids of jobs and runs."""

from __future__ import annotations

import hashlib
import re
from typing import Final
from urllib.parse import quote, unquote

from lineage.entity import Entity, Kind, artifact

__all__ = [
    "DATASET",
    "GROUP",
    "JOB",
    "RUN",
    "dataset_entity",
    "dataset_name",
    "dataset_uri",
    "job_alias",
    "job_entity",
    "run_entity",
    "run_group_entity",
    "version_entity",
    "version_uri",
]

DATASET: Final = "DataSet"
JOB: Final = "Job"
RUN: Final = "Run"
GROUP: Final = "RunGroup"

_MAX_URI: Final = 8000
_MAX_NAME: Final = 1024
_MAX_PART: Final = 160
_SCHEMES: Final = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "postgresql": "postgres"}
_BARE: Final = ("bigquery", "file")
_OPENLINEAGE: Final = "openlineage"
_VERSION: Final = "#version="
_AUTHORITY: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/]*)/*(.*)", re.DOTALL)
# What must not stand in a uri: what no terminal shows, the mark of a version, and a percent sign
# that would read as one of ours.
_ESCAPED: Final = re.compile("[\x00-\x20\x7f-\x9f\u2028-\u202e\u2066-\u2069#]|%(?=[0-9A-Fa-f]{2})")
_UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


def dataset_uri(namespace: str, name: str) -> str:
    """The one uri of a dataset, whatever way its two names were written.

    >>> dataset_uri("s3a://Bucket", "/flights/2013"), dataset_uri("file", "/data/flights.csv")
    ('s3://bucket/flights/2013', 'file:///data/flights.csv')
    >>> dataset_uri("kafka://broker:9092", "flights"), dataset_uri("bigquery", "p.d.t")
    ('kafka://broker:9092/flights', 'bigquery:p.d.t')
    >>> dataset_uri("warehouse", "public.flights")
    'openlineage://warehouse/public.flights'
    """
    path = name.strip()
    uri = f"{_place(namespace.strip(), path)}{_escaped(path.strip('/')) or '/'}"
    if len(uri) <= _MAX_URI:
        return uri
    return f"{uri[: _MAX_URI - 80]}#sha256={_hash(uri)}"


def dataset_name(uri: str) -> tuple[str, str]:
    """Namespace and name of a uri, for what did not come from OpenLineage.

    >>> dataset_name("s3://bucket/flights/2013"), dataset_name("file:///data/flights.csv")
    (('s3://bucket', 'flights/2013'), ('file', '/data/flights.csv'))
    >>> dataset_name("bigquery:p.d.t"), dataset_name("/data/flights.csv")
    (('bigquery', 'p.d.t'), ('file', '/data/flights.csv'))
    """
    uri = uri.partition(_VERSION)[0]
    found = _AUTHORITY.fullmatch(uri)
    if found is None:
        word, colon, rest = uri.partition(":")
        if colon and rest and re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+", word):
            return word, _unescaped(rest)
        return "file", uri
    scheme, authority, path = found.groups()
    if scheme == _OPENLINEAGE:
        return unquote(authority), _unescaped(path)
    if scheme == "file":
        return (f"file://{authority}" if authority else "file"), f"/{_unescaped(path)}"
    return f"{scheme}://{authority}", _unescaped(path)


def version_uri(uri: str, version: str) -> str:
    """Where one version of a dataset is.

    >>> version_uri("s3://bucket/flights", "12")
    's3://bucket/flights#version=12'
    """
    text = quote(version, safe=":+,=@~()")
    return f"{uri}{_VERSION}{text if len(text) <= _MAX_PART else f'sha256={_hash(version)}'}"


def dataset_entity(namespace: str, name: str) -> Entity:
    """The artifact of a dataset; equal names and equal places give the same one."""
    uri = dataset_uri(namespace, name)
    return artifact(DATASET, uri, name=_shown(dataset_name(uri)[1]))


def version_entity(namespace: str, name: str, version: str) -> Entity:
    """The artifact of one version of a dataset."""
    uri = dataset_uri(namespace, name)
    label = _shown(f"{dataset_name(uri)[1]}@{version}")
    return artifact(DATASET, version_uri(uri, version), name=label)


def job_entity(namespace: str, name: str) -> Entity:
    """The context of a job.

    >>> job_entity("airflow", "load.flights").uid
    'urn:fs:context:Job:airflow:load.flights'
    """
    uid = f"urn:fs:context:{JOB}:{_part(namespace)}:{_part(name)}"
    return Entity(Kind.CONTEXT, JOB, _shown(name), uid=uid)


def job_alias(namespace: str, name: str) -> str:
    """The short name of a job: `namespace/name`, which no other job has."""
    return f"{quote(namespace, safe='')}/{name}"


def run_entity(run_id: str) -> Entity:
    """The trial component of a run.

    >>> run_entity("01890a5d-ac96-774b-bcce-b302099a8057").uid
    'urn:fs:trial-component:Run:01890a5d-ac96-774b-bcce-b302099a8057'
    """
    uid = f"urn:fs:trial-component:{RUN}:{_part(run_id)}"
    return Entity(Kind.TRIAL_COMPONENT, RUN, _shown(run_id), uid=uid)


def run_group_entity(run_id: str) -> Entity:
    """The context of all runs that a run started: two runs are never associated directly."""
    uid = f"urn:fs:context:{GROUP}:{_part(run_id)}"
    return Entity(Kind.CONTEXT, GROUP, _shown(run_id), uid=uid)


def _place(namespace: str, path: str) -> str:
    word = namespace.lower()
    if word == "file" and path.startswith("/"):
        return "file:///"
    if word in _BARE:
        return f"{word}:"
    found = _AUTHORITY.fullmatch(namespace)
    if found is None:
        return f"{_OPENLINEAGE}://{quote(namespace, safe='')}/"
    scheme, authority, folder = found[1].lower(), found[2].lower(), found[3].strip("/")
    within = f"{_escaped(folder)}/" if folder else ""
    return f"{_SCHEMES.get(scheme, scheme)}://{_escaped(authority)}/{within}"


def _escaped(text: str) -> str:
    return _ESCAPED.sub(lambda found: quote(found[0], safe=""), text)


def _unescaped(text: str) -> str:
    return unquote(text)


def _shown(text: str) -> str:
    """A name as a person may read it, never empty."""
    plain = _UNPRINTABLE.sub("\ufffd", text)
    plain = plain if plain.strip() else repr(plain)
    return plain if len(plain) <= _MAX_NAME else f"{plain[: _MAX_NAME - 24]}…{_hash(text)[:20]}"


def _part(text: str) -> str:
    quoted = quote(text, safe="+,=()")
    if not quoted:
        return "@"
    return quoted if len(quoted) <= _MAX_PART else f"{quoted[:120]}@{_hash(text)[:32]}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
