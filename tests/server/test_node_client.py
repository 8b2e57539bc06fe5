"""The client in Node: it knows the server by `proto/` alone."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.message import Message

from featureline.server import Tls
from featurestore.auth import AccessDatabase, Guard
from featurestore.v1 import control_pb2, record_pb2, runtime_pb2
from tests.server.certificates import Authority

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "node"
PRINTED = [
    {"get": {"origin": "JFK", "hour": "2013-01-01T06:00:00Z", "temp": 39, "wind": 12}},
    {"missing": True},
    {"batch": [{"origin": "LGA", "temp": -3.5}, {"origin": "JFK", "temp": 39}]},
    {
        "refused": {
            "code": "INVALID_ARGUMENT",
            "error": "InvalidRecord",
            "message": "weather.humidity: no such feature in the group",
            "facts": {"group": "weather", "feature": "humidity"},
        }
    },
]


@pytest.fixture(scope="module")
def node() -> str:
    """The program `node`; CI has it."""
    found = shutil.which("node")
    if found is None:
        assert os.environ.get("CI") != "true", "node is not installed"
        pytest.skip("node is not installed")
    return found


@pytest.fixture
def client(node: str) -> Callable[..., tuple[int, list[Any], str]]:
    """Run the example; returns exit code, what it printed, and stderr."""

    def run(address: str, **environment: object) -> tuple[int, list[Any], str]:
        kept = {name: value for name, value in os.environ.items() if "FEATURELINE" not in name}
        done = subprocess.run(
            [node, str(EXAMPLE / "client.mjs"), address],
            capture_output=True,
            text=True,
            timeout=60,
            env=kept | {name: str(value) for name, value in environment.items()},
            check=False,
        )
        return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    return run


@pytest.fixture
def guarded(
    serving: Callable[..., Any], tmp_path: Path, weather: Any
) -> Iterator[tuple[str, str, Path]]:
    """The address of a server with TLS and a policy, a token, and the authority's certificate."""
    authority = Authority(tmp_path, "authority")
    own = authority.issue("server")
    home = tmp_path / "guarded"
    home.mkdir()
    policy = {"Statement": [{"Effect": "Allow", "Action": "sagemaker:*", "Resource": "*"}]}
    with closing(AccessDatabase(home)) as access:
        access.put_policy("all", json.dumps(policy))
        token = access.create_token("loader", ["all"]).text
    with Guard.open(home) as guard:
        started = serving("grpc", guard=guard, tls=Tls(own.certificate, own.key))
        started.store.create_feature_group(weather)
        yield started.address, token, authority.file
        started.stop()


@pytest.mark.parametrize("front", ["grpc", "native"])
def test_it_makes_a_group_puts_gets_and_reads_errors(
    serving: Callable[..., Any], client: Callable[..., Any], front: str
) -> None:
    server = serving(front)

    assert client(server.address) == (0, PRINTED, "")
    assert server.store.get("weather", "LGA") == {
        "origin": "LGA",
        "hour": "2013-01-01T06:00:00Z",
        "temp": -3.5,
        "wind": -1,
    }


def test_it_logs_in_over_tls(guarded: Any, client: Callable[..., Any]) -> None:
    address, token, ca = guarded

    assert client(address, FEATURELINE_TOKEN=token, FEATURELINE_TLS_CA=ca) == (0, PRINTED, "")


def test_without_a_token_it_prints_what_the_audit_log_has(
    guarded: Any, client: Callable[..., Any], tmp_path: Path
) -> None:
    address, _, ca = guarded
    code, printed, err = client(address, FEATURELINE_TLS_CA=ca)

    assert (code, printed) == (1, [])
    error = json.loads(err)
    assert (error["code"], error["error"]) == ("UNAUTHENTICATED", "Unauthenticated")
    [line] = (tmp_path / "guarded" / "audit.log").read_text().splitlines()
    assert json.loads(line)["request_id"] == error["request_id"]


def test_a_server_that_is_not_there_is_unavailable(client: Callable[..., Any]) -> None:
    code, _, err = client("127.0.0.1:1")

    assert (code, json.loads(err)["code"]) == (1, "UNAVAILABLE")


def test_a_token_does_not_leave_the_machine_in_clear_text(client: Callable[..., Any]) -> None:
    code, _, err = client("store.example:1", FEATURELINE_TOKEN="flk_1_secret")

    assert code == 1
    assert "clear text" in err
    assert "secret" not in err


# Decodes each message it is given and encodes it again.
RECODE = """
import { createInterface } from 'node:readline';
const { Schema } = await import(process.argv[1]);
const schema = new Schema(process.argv[2], [
  'featurestore/v1/runtime.proto', 'featurestore/v1/control.proto',
]);
for await (const line of createInterface({ input: process.stdin })) {
  const [type, hex] = line.split(' ');
  const message = schema.decode(type, Buffer.from(hex ?? '', 'hex'));
  console.log(schema.encode(type, message).toString('hex'));
}
"""


def messages() -> Iterator[Message]:
    values = record_pb2.Value
    integers = [0, 1, -1, 127, 128, 2**31, -(2**31), 2**53, 2**53 + 1, 2**63 - 1, -(2**63)]
    doubles = [0.0, -0.0, 1.5, 5e-324, 1.7976931348623157e308, math.inf, -math.inf]
    for integer in integers:
        yield values(integral_value=integer)
    for double in doubles:
        yield values(fractional_value=double)
    for text in ("", "é", "\0", "𝄞" * 50, "x" * 1000):
        yield values(string_value=text)
        yield values(string_list=record_pb2.StringList(values=[text, "", text]))
    yield values()
    yield values(integral_list=record_pb2.IntegralList(values=integers))
    yield values(fractional_list=record_pb2.FractionalList(values=doubles))
    yield values(string_list=record_pb2.StringList())
    yield runtime_pb2.PutRecordRequest(
        feature_group_name="g",
        record=record_pb2.Record(
            values=[record_pb2.FeatureValue(feature_name="f", value=values(integral_value=0))]
        ),
        target_stores=[record_pb2.ONLINE_STORE, record_pb2.OFFLINE_STORE],
        ttl_duration=record_pb2.TtlDuration(unit=record_pb2.TtlDuration.WEEKS, value=2),
    )
    reply = runtime_pb2.GetRecordResponse()
    reply.expires_at.FromMicroseconds(-1)
    yield reply
    yield runtime_pb2.GetSourcePositionResponse(next={"0": 0, "1": 2**63 - 1, "": -1})
    yield runtime_pb2.WriteError(index=2**32 - 1)
    yield runtime_pb2.PutRecordResponse()
    yield control_pb2.FeatureSelection(prefix="", version=0)
    yield control_pb2.UpdateFeatureMetadataRequest(description="")


def test_every_message_comes_back_as_it_was(node: str) -> None:
    cases = list(messages())
    lines = [f"{case.DESCRIPTOR.full_name} {case.SerializeToString().hex()}" for case in cases]
    done = subprocess.run(
        [
            *(node, "--input-type=module", "-e", RECODE),
            *(str(EXAMPLE / "proto.mjs"), str(ROOT / "proto")),
        ],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    again = [
        type(case).FromString(bytes.fromhex(line))
        for case, line in zip(cases, done.stdout.splitlines(), strict=True)
    ]
    # Texts tell -0.0 from 0.0.
    assert list(map(str, again)) == list(map(str, cases))
