"""How clients log in: TLS, mutual TLS and tokens, on every client, and what they are told."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pytest

import featurestore
import lineage
import training
from featureline.server import Tls
from featurestore import (
    AccessDenied,
    ClientTls,
    InvalidRequest,
    StoreUnavailable,
    Unauthenticated,
    aio,
    wire,
)
from featurestore.auth import AccessDatabase, Guard
from featurestore.v1 import runtime_pb2, runtime_pb2_grpc
from lineage.wire.channel import Login
from lineage.wire.requestid import REQUEST_ID_KEY
from tests.server.certificates import Authority, Pair

RECORD = {"origin": "JFK", "hour": "2013-01-01T06:00:00Z", "temp": 39.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder, "authority")


@pytest.fixture(scope="module")
def own(authority: Authority) -> Pair:
    return authority.issue("server")


@pytest.fixture(scope="module")
def client(authority: Authority) -> Pair:
    return authority.issue("client")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TOKEN", "TLS_CA", "TLS_CERT", "TLS_KEY", "TLS_SERVER_NAME", "PLAINTEXT_TOKEN"):
        monkeypatch.delenv(f"FEATURELINE_{name}", raising=False)


@pytest.fixture
def over_tls(serving: Callable[..., Any], own: Pair, weather: Any) -> Any:
    """A server that speaks TLS, with one record."""
    started = serving("grpc", tls=Tls(own.certificate, own.key))
    started.store.create_feature_group(weather)
    started.store.put("weather", RECORD)
    return started


# -- TLS --------------------------------------------------------------------------------------


def test_every_client_speaks_tls(over_tls: Any, authority: Authority, loop: Any) -> None:
    tls = ClientTls(authority.file)
    with featurestore.connect(over_tls.address, tls=tls) as store:
        assert store.get("weather", "JFK") == RECORD
        assert store.graph.verify().intact
    with training.connect(over_tls.address, tls=tls) as jobs:
        assert list(jobs.list()) == []

    async def get() -> Any:
        async with aio.connect(over_tls.address, tls=tls) as store:
            return await store.get("weather", "JFK")

    assert loop.run(get()) == RECORD


def test_the_environment_says_it_too(
    over_tls: Any, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEATURELINE_TLS_CA", str(authority.file))
    with featurestore.connect(over_tls.address) as store:
        assert store.get("weather", "JFK") == RECORD


def test_a_strange_authority_is_named(over_tls: Any, folder: Path) -> None:
    other = Authority(folder, "other")
    with (
        featurestore.connect(over_tls.address, tls=ClientTls(other.file)) as store,
        pytest.raises(StoreUnavailable, match="certificate is not trusted"),
    ):
        store.get("weather", "JFK")


def test_a_certificate_of_another_name_is_refused_unless_that_name_is_given(
    serving: Callable[..., Any], authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = authority.issue("elsewhere", addresses=("store.example",))
    started = serving("grpc", tls=Tls(elsewhere.certificate, elsewhere.key))
    with (
        featurestore.connect(started.address, tls=ClientTls(authority.file)) as store,
        pytest.raises(StoreUnavailable, match="connect by a name that the certificate has"),
    ):
        store.list_feature_groups()
    named = ClientTls(authority.file, server_name="store.example")
    with featurestore.connect(started.address, tls=named) as store:
        assert store.list_feature_groups() == []
    monkeypatch.setenv("FEATURELINE_TLS_CA", str(authority.file))
    monkeypatch.setenv("FEATURELINE_TLS_SERVER_NAME", "store.example")
    with training.connect(started.address) as jobs:
        assert list(jobs.list()) == []


def test_a_plaintext_client_is_told_that_the_server_speaks_tls(
    over_tls: Any, connect_later: Callable[..., Any]
) -> None:
    target = over_tls.address
    for store in connect_later(target):
        with closing(store), pytest.raises(StoreUnavailable, match="the server speaks TLS"):
            store.get("weather", "JFK")
    with (
        lineage.connect(target) as graph,
        pytest.raises(lineage.StoreUnavailable, match="the server speaks TLS"),
    ):
        graph.verify()
    with (
        training.connect(target) as jobs,
        pytest.raises(training.TrainingUnavailable, match="the server speaks TLS"),
    ):
        list(jobs.list())


@pytest.mark.parametrize("front", ["grpc", "native"])
def test_a_plaintext_server_is_recognised(
    serving: Callable[..., Any], own: Pair, front: str
) -> None:
    started = serving(front)
    with (
        featurestore.connect(started.address, tls=ClientTls(own.certificate)) as store,
        pytest.raises(StoreUnavailable, match="the server speaks plaintext"),
    ):
        store.list_feature_groups()


def test_mutual_tls_wants_the_clients_certificate(
    serving: Callable[..., Any], own: Pair, authority: Authority, client: Pair, folder: Path
) -> None:
    mutual = serving("grpc", tls=Tls(own.certificate, own.key, authority.file))
    stranger = Authority(folder, "unknown").issue("stranger")

    def refusal(certificate: Path | None, key: Path | None) -> str:
        tls = ClientTls(authority.file, certificate, key)
        with (
            featurestore.connect(mutual.address, tls=tls) as store,
            pytest.raises(StoreUnavailable) as caught,
        ):
            store.list_feature_groups()
        return str(caught.value)

    known = ClientTls(authority.file, client.certificate, client.key)
    with featurestore.connect(mutual.address, tls=known) as store:
        assert store.list_feature_groups() == []
    assert "the server asks for a client's certificate" in refusal(None, None)
    assert "does not take the client's certificate" in refusal(stranger.certificate, stranger.key)


def test_a_key_of_another_certificate_is_refused(authority: Authority, client: Pair) -> None:
    other = authority.issue("another")
    with pytest.raises(InvalidRequest, match="made together"):
        featurestore.connect("127.0.0.1:1", tls=ClientTls(None, client.certificate, other.key))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"ca": Path("/nowhere.pem")}, "cannot be read"),
        ({"ca": Path(__file__)}, "expected a PEM file with a certificate"),
    ],
)
def test_files_that_cannot_be_used_are_named(options: Any, expected: str) -> None:
    with pytest.raises(InvalidRequest, match=expected):
        featurestore.connect("127.0.0.1:1", tls=ClientTls(**options))
    with pytest.raises(training.InvalidLogin, match=expected):
        training.connect("127.0.0.1:1", tls=ClientTls(**options))
    with pytest.raises(lineage.InvalidLogin, match=expected):
        lineage.connect("127.0.0.1:1", tls=ClientTls(**options))


def test_a_certificate_and_its_key_belong_together(client: Pair) -> None:
    with pytest.raises(lineage.InvalidLogin, match="belong together"):
        ClientTls(certificate=client.certificate)


# -- tokens -----------------------------------------------------------------------------------


POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["sagemaker:GetRecord", "sagemaker:ListFeatureGroups"],
            "Resource": "*",
        },
        {"Effect": "Deny", "Action": "sagemaker:PutRecord", "Resource": "*"},
    ],
}


@pytest.fixture(params=["grpc", "native"])
def guarded(
    request: pytest.FixtureRequest, serving: Callable[..., Any], tmp_path: Path, weather: Any
) -> Any:
    """A server of a home with a policy, and a token that may read."""
    home = tmp_path / "guarded"
    home.mkdir()
    with closing(AccessDatabase(home)) as access:
        access.put_policy("readers", json.dumps(POLICY))
        token = access.create_token("reader", ["readers"]).text
    with Guard.open(home) as guard:
        started = serving(request.param, guard=guard)
        started.store.create_feature_group(weather)
        started.store.put("weather", RECORD)
        yield started, token
        started.stop()


def test_a_token_opens_what_its_policy_allows(guarded: Any) -> None:
    serving, token = guarded
    with featurestore.connect(serving.address, token=token) as store:
        assert store.get("weather", "JFK") == RECORD
        with pytest.raises(AccessDenied, match="PutRecord") as put:
            store.put("weather", RECORD)
        with pytest.raises(lineage.AccessDenied) as verify:
            store.graph.verify()
    with (
        training.connect(serving.address, token=token) as jobs,
        pytest.raises(training.AccessDenied) as listed,
    ):
        list(jobs.list())
    asked = [
        (error.principal, error.action, error.resource.rpartition(":")[2], error.statement)
        for error in (put.value, verify.value, listed.value)
    ]
    assert asked == [
        ("reader", "sagemaker:PutRecord", "feature-group/weather", "statement 1 of policy readers"),
        (
            "reader",
            "featureline:VerifyLog",
            "lineage-group/sagemaker-default-lineage-group",
            None,
        ),
        ("reader", "sagemaker:ListTrainingJobs", "training-job/*", None),
    ]


def test_without_a_token_nothing_is_open(guarded: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    serving, token = guarded
    with featurestore.connect(serving.address) as store:
        with pytest.raises(Unauthenticated):
            store.get("weather", "JFK")
        with pytest.raises(lineage.Unauthenticated):
            store.graph.verify()
    monkeypatch.setenv("FEATURELINE_TOKEN", token)
    with featurestore.connect(serving.address) as store:
        assert store.get("weather", "JFK") == RECORD


def test_tables_and_asyncio_carry_the_token(guarded: Any, loop: Any) -> None:
    serving, token = guarded

    async def get() -> Any:
        async with aio.connect(serving.address, token=token) as store:
            return await store.get("weather", "JFK")

    assert loop.run(get()) == RECORD
    with featurestore.connect(serving.address, token=token) as store:
        with pytest.raises(AccessDenied):
            store.get_table("weather", ["JFK"])
        with pytest.raises(AccessDenied):
            store.put_table("weather", pa.Table.from_pylist([RECORD]))


@pytest.mark.parametrize("target", ["store.example:50051", "10.0.0.7:50051", "[2001:db8::1]:1"])
def test_a_token_does_not_travel_in_clear_text(target: str) -> None:
    with pytest.raises(InvalidRequest, match="in clear text"):
        featurestore.connect(target, token="flk_1_secret")


def test_a_token_travels_in_clear_text_where_that_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = "store.example:50051"
    featurestore.connect(target, token="flk_1_secret", plaintext_token=True).close()
    lineage.connect(target, token="flk_1_secret", plaintext_token=True).close()
    monkeypatch.setenv("FEATURELINE_PLAINTEXT_TOKEN", "1")
    training.connect(target, token="flk_1_secret").close()


@pytest.mark.parametrize("target", ["127.0.0.1:1", "localhost:1", "[::1]:1", "unix:/tmp/socket"])
def test_a_token_may_travel_within_the_machine(target: str) -> None:
    featurestore.connect(target, token="flk_1_secret").close()


def test_a_token_is_not_shown() -> None:
    assert "secret" not in repr(Login("flk_1_secret"))
    with pytest.raises(InvalidRequest) as caught:
        featurestore.connect("127.0.0.1:1", token="flk_1 secret")
    assert "secret" not in str(caught.value)


# -- the id of a call -------------------------------------------------------------------------


def audited(folder: Path) -> list[str]:
    lines = (folder / "guarded" / "audit.log").read_text().splitlines()
    return [json.loads(line)["request_id"] for line in lines]


def test_an_error_names_the_call_as_the_audit_log_does(
    guarded: Any, connect_later: Callable[..., Any], tmp_path: Path
) -> None:
    serving, token = guarded
    ids: list[object] = []
    for store in connect_later(serving.address, token=token):
        with closing(store):
            for refused in (
                lambda store=store: store.put("weather", RECORD),  # by the front itself
                lambda store=store: store.flush("weather"),
            ):
                with pytest.raises(AccessDenied) as denied:
                    refused()
                ids.append(denied.value.request_id)
    for strangers in connect_later(serving.address, token="flk_000000000000_x"):
        with closing(strangers), pytest.raises(Unauthenticated) as unknown:
            strangers.get("weather", "JFK")
        ids.append(unknown.value.request_id)
    with featurestore.connect(serving.address, token=token) as store:
        with pytest.raises(lineage.AccessDenied) as verify:
            store.graph.verify()
        ids.append(verify.value.request_id)
        with pytest.raises(AccessDenied) as table:
            store.get_table("weather", ["JFK"])
        ids.append(table.value.request_id)
    with training.connect(serving.address, token=token) as jobs:
        with pytest.raises(training.AccessDenied) as listed:
            list(jobs.list())
        ids.append(listed.value.request_id)

    assert audited(tmp_path) == ids
    assert len(set(ids)) == len(ids)


def test_entries_of_batches_are_logged_under_the_id_of_their_call(
    guarded: Any, tmp_path: Path
) -> None:
    serving, token = guarded
    put = wire.put_message(featurestore.Put("weather", RECORD))
    wanted = wire.batch_get_message([featurestore.Get("weather", ["JFK"])])
    with grpc.insecure_channel(serving.address) as channel:
        runtime: Any = runtime_pb2_grpc.FeatureStoreRuntimeStub(channel)

        def metadata(name: str) -> tuple[tuple[str, str], ...]:
            return ((REQUEST_ID_KEY, name), ("authorization", f"Bearer {token}"))

        batch = runtime_pb2.BatchWriteRecordRequest(entries=[put, put])
        assert len(runtime.BatchWriteRecord(batch, metadata=metadata("a")).errors) == 2
        assert len(runtime.BatchGetRecord(wanted, metadata=metadata("b")).errors) == 1
        [ack] = runtime.StreamRecords(iter([put]), metadata=metadata("c"))
        assert len(ack.errors) == 1
    assert audited(tmp_path) == ["a", "b", "c"]


@pytest.mark.parametrize("front", ["grpc", "native"])
def test_an_error_without_a_guard_has_an_id_too(
    serving: Callable[..., Any], connect_later: Callable[..., Any], front: str
) -> None:
    for store in connect_later(serving(front).address):
        with closing(store):
            with pytest.raises(LookupError) as first:
                store.get("weather", "JFK")
            with pytest.raises(LookupError) as second:
                store.get("weather", "JFK")
        assert first.value.request_id != second.value.request_id  # type: ignore[attr-defined]


def test_each_call_carries_an_id_of_its_own() -> None:
    login = Login("flk_1_secret")
    first, second = login.call_metadata(), login.call_metadata()
    assert [name for name, _ in first] == [REQUEST_ID_KEY, "authorization"]
    assert first[0] != second[0]
    assert first[1] == second[1]


class Unreadable:
    """A guard that fails as none should."""

    @property
    def is_active(self) -> bool:
        raise ArithmeticError("no answer")


@pytest.mark.parametrize("front", ["grpc", "native"])
def test_a_fault_of_the_server_is_logged_under_the_id_that_the_client_has(
    serving: Callable[..., Any], front: str, caplog: pytest.LogCaptureFixture
) -> None:
    started = serving(front, guard=Unreadable())
    with featurestore.connect(started.address) as store:
        with pytest.raises(featurestore.InternalError) as read:
            store.list_feature_groups()
        with pytest.raises(featurestore.FeatureStoreError) as put:
            store.put("weather", RECORD)

    for error in (read.value, put.value):
        named = [record for record in caplog.records if str(error.request_id) in str(record.args)]
        assert [record.exc_info is not None for record in named] == [True]
