"""A client made from `proto/` alone, in a process that imports nothing of ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import featurestore
from featurestore import FeatureGroup

PROTO = Path(__file__).parents[2] / "proto"
CLIENT = """
import sys
import grpc
from featurestore.v1 import control_pb2, control_pb2_grpc, runtime_pb2, runtime_pb2_grpc

assert sys.path[0] in control_pb2.__file__, control_pb2.__file__
assert "duckdb" not in sys.modules
with grpc.insecure_channel(sys.argv[1]) as channel:
    runtime = runtime_pb2_grpc.FeatureStoreRuntimeStub(channel)
    request = runtime_pb2.PutRecordRequest(feature_group_name="weather")
    for name, kind, value in (
        ("origin", "string_value", "JFK"),
        ("hour", "string_value", "2013-01-01T06:00:00Z"),
        ("temp", "fractional_value", 39.5),
        ("wind", "integral_value", 12),
    ):
        setattr(request.record.values.add(feature_name=name).value, kind, value)
    runtime.PutRecord(request, timeout=10)
    reply = runtime.GetRecord(
        runtime_pb2.GetRecordRequest(
            feature_group_name="weather", record_identifier_value_as_string="JFK"
        ),
        timeout=10,
    )
    assert reply.record == request.record, reply
    missing = runtime.GetRecord(
        runtime_pb2.GetRecordRequest(
            feature_group_name="weather", record_identifier_value_as_string="LGA"
        ),
        timeout=10,
    )
    assert not missing.HasField("record")
    control = control_pb2_grpc.FeatureStoreStub(channel)
    found = control.DescribeFeatureGroup(
        control_pb2.DescribeFeatureGroupRequest(feature_group_name="weather"), timeout=10
    )
    print(found.description.feature_group.record_identifier_feature_name)
"""


def test_a_client_generated_from_proto_alone_puts_and_gets(
    server, weather: FeatureGroup, tmp_path: Path
) -> None:
    with featurestore.connect(server.address) as store:
        store.create_feature_group(weather)
    files = [str(path) for path in sorted(PROTO.glob("featurestore/v1/*.proto"))]
    made = tmp_path / "client"
    package = made / "featurestore" / "v1"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    generate = [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}"]
    generate += [f"--python_out={made}", f"--grpc_python_out={made}"]
    subprocess.run([*generate, *files], check=True)

    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys; sys.path[0] = {str(made)!r}\n{CLIENT}",
            server.address,
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": ""},
        check=False,
    )

    assert (ended.stdout, ended.stderr) == ("origin\n", "")
