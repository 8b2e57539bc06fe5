"""TLS, SASL and rights, with a real broker behind a proxy that asks for them."""

from __future__ import annotations

import json
import logging
import ssl
import time

import pytest

from featurestore import InvalidRequest
from ingest import KafkaSecurity, KafkaSource, SourceDenied, kafka_source
from tests.ingest.kafka_proxy import Proxy
from tests.server.certificates import Authority

BOTH = pytest.mark.parametrize("client", ["kafka-python", "confluent"])
USER, PASSWORD, TOKEN = "ada", "correct-horse", "e30.e30.c2lnbmVk"


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"), "ca")


@pytest.fixture(scope="module")
def tls(authority):
    """Make a listener's context, with a certificate for these addresses."""

    def make(*, asks: bool = False, addresses=("127.0.0.1",)) -> ssl.SSLContext:
        pair = authority.issue("broker", addresses=addresses)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair.certificate, pair.key)
        if asks:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(authority.file)
        return context

    return make


@pytest.fixture
def proxy(broker):
    """Put a proxy before the shared broker."""
    made = []

    def make(**options) -> Proxy:
        made.append(Proxy(broker, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def topic(new_topic, produce, reading) -> str:
    name = new_topic()
    produce(name, [reading(n) for n in range(5)])
    return name


def password(**changes) -> KafkaSecurity:
    settings = {"mechanism": "SCRAM-SHA-256", "username": USER, "password": PASSWORD}
    return KafkaSecurity("SASL_PLAINTEXT", **(settings | changes))


def read(address, topic, client, security, *, assignment="all") -> list[bytes]:
    source = KafkaSource(
        address,
        topic,
        consumer_group="secured",
        client=client,
        assignment=assignment,
        security=security,
    )
    try:
        source.seek(dict)
        found: list[bytes] = []
        until = time.monotonic() + 30
        while len(found) < 5 and time.monotonic() < until:
            found += [message.value for message in source.poll(100, 0.5).messages]
        return found
    finally:
        source.close()


@BOTH
def test_tls_with_certificates_on_both_sides(client, proxy, tls, authority, topic):
    mine = authority.issue("mine")
    listener = proxy(tls=tls(asks=True))
    security = KafkaSecurity("SSL", ca=authority.file, certificate=mine.certificate, key=mine.key)
    found = read(listener.address, topic, client, security)
    assert [json.loads(value)["sequence"] for value in found] == list(range(5))


@BOTH
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"])
def test_login_over_tls_and_no_secret_in_any_log(
    client, mechanism, proxy, tls, authority, topic, tmp_path, caplog
):
    caplog.set_level(logging.DEBUG)
    listener = proxy(tls=tls(), users={USER: PASSWORD}, tokens=(TOKEN,))
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    if mechanism == "OAUTHBEARER":
        who = {"token_file": tmp_path / "token"}
    else:
        who = {"username": USER, "password": PASSWORD}
    security = KafkaSecurity("SASL_SSL", ca=authority.file, mechanism=mechanism, **who)
    assert len(read(listener.address, topic, client, security)) == 5
    shown = caplog.text + repr(security) + str(security)
    assert PASSWORD not in shown
    assert TOKEN not in shown


@BOTH
@pytest.mark.parametrize(
    ("of_listener", "of_client", "told"),
    [
        ({}, {"ca": "other"}, "certificate is not trusted .*name the authority that signed it"),
        (
            {"addresses": ("broker.example",)},
            {"ca": "ca"},
            "certificate is for another name .*check_hostname",
        ),
        ({}, None, "no Kafka in the clear there .*use protocol SSL or SASL_SSL"),
        ({"asks": True}, {"ca": "ca"}, "a certificate that it trusts; give this client one"),
    ],
    ids=["authority", "name", "clear", "no certificate"],
)
def test_tls_errors_are_told_apart(
    client, of_listener, of_client, told, proxy, tls, authority, topic, tmp_path
):
    files = {"ca": authority.file, "other": Authority(tmp_path, "other").file}
    security = None if of_client is None else KafkaSecurity("SSL", ca=files[of_client["ca"]])
    with pytest.raises(SourceDenied, match=f"TLS refused: .*{told}"):
        read(proxy(tls=tls(**of_listener)).address, topic, client, security)


def test_tls_against_a_listener_in_the_clear(proxy, authority, topic, monkeypatch):
    monkeypatch.setattr("ingest.sources.kafka_probe._STEP_S", 0.3)
    security = KafkaSecurity("SSL", ca=authority.file)
    with pytest.raises(SourceDenied, match=r"TLS refused: .*use protocol PLAINTEXT"):
        read(proxy().address, topic, "kafka-python", security)


@pytest.mark.parametrize(
    ("security", "told"),
    [
        (
            password(mechanism="PLAIN"),
            "mechanism not offered: .*not offer mechanism PLAIN; it offers SCRAM-SHA-256",
        ),
        (
            password(password="battery-staple"),
            "authentication failed: .*Invalid username or password; check .* of 'ada' for SCRAM",
        ),
        (
            None,
            "login required: .*closes the connection to a client .*SASL_PLAINTEXT",
        ),
    ],
    ids=["mechanism", "password", "no login"],
)
def test_login_errors_are_told_apart(security, told, proxy, topic):
    listener = proxy(users={USER: PASSWORD}, mechanisms=("SCRAM-SHA-256",))
    with pytest.raises(SourceDenied, match=told) as denied:
        read(listener.address, topic, "kafka-python", security)
    assert "battery-staple" not in str(denied.value)


@BOTH
@pytest.mark.parametrize(
    ("right", "told"),
    [
        ("Describe topic", "not authorised for the topic.* operation Describe on topic '{topic}'"),
        ("Read topic", "not authorised for the topic.* operation Read on topic '{topic}'"),
        ("Read group", "authorised for the consumer group.* operation Read on group 'secured'"),
    ],
)
def test_missing_right_is_named(client, right, told, proxy, topic):
    listener = proxy()
    listener.denied = {right}
    assignment = "group" if right == "Read group" else "all"
    with pytest.raises(SourceDenied, match=told.format(topic=topic)):
        read(listener.address, topic, client, None, assignment=assignment)


def test_settings_from_a_file(tmp_path):
    (tmp_path / "password.txt").write_text("correct-horse\n")
    file = tmp_path / "security.toml"
    file.write_text(
        'protocol = "SASL_PLAINTEXT"\nmechanism = "PLAIN"\nusername = "ada"\n'
        'password_file = "password.txt"\n'
    )
    found = KafkaSecurity.from_file(file)
    assert found == password(mechanism="PLAIN")
    assert PASSWORD not in repr(found)
    file.write_text(file.read_text().replace('password_file = "password.txt"', 'password_env="P"'))
    assert KafkaSecurity.from_file(file, environment={"P": PASSWORD}) == found


def test_settings_from_the_environment(tmp_path):
    found = kafka_source(
        "t",
        consumer_group="g",
        environment={
            "FEATURELINE_KAFKA_BOOTSTRAP": "broker:9093",
            "FEATURELINE_KAFKA_CLIENT": "confluent",
            "FEATURELINE_KAFKA_PROTOCOL": "SASL_SSL",
            "FEATURELINE_KAFKA_CHECK_HOSTNAME": "false",
            "FEATURELINE_KAFKA_MECHANISM": "PLAIN",
            "FEATURELINE_KAFKA_USERNAME": USER,
            "FEATURELINE_KAFKA_PASSWORD": PASSWORD,
        },
    )
    assert (found.bootstrap, found.client) == ("broker:9093", "confluent")
    assert KafkaSecurity.from_environment({}) == KafkaSecurity()


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("", "protocol: expected one of PLAINTEXT"),
        ('protocol = "TLS"', "protocol: expected one of PLAINTEXT.*got 'TLS'"),
        ('protocol = "SSL"\npassword = "x"', "password: a secret does not belong into this file"),
        ('protocol = "SSL"\nusernam = "x"', "unknown setting 'usernam'; did you mean 'username'"),
        ('protocol = "SSL"\nca = "nowhere.pem"', "ca: there is no file .*nowhere.pem"),
        ('protocol = "SSL"\nmechanism = "PLAIN"', "PLAIN needs protocol SASL_SSL"),
        ('protocol = "SASL_SSL"\nmechanism = "SCRAM"', "mechanism: expected one of PLAIN"),
        ('protocol = "SASL_SSL"\nmechanism = "PLAIN"', "username: mechanism PLAIN needs one"),
        ('protocol = "SASL_SSL"\nmechanism = "OAUTHBEARER"', "token_file: .* needs one"),
        ('protocol = "PLAINTEXT"\nca = "security.toml"', "they need protocol SSL"),
        ('protocol = "SSL"\ncheck_hostname = "no"', "check_hostname: expected bool, got 'no'"),
        ('protocol = "SSL"\npassword_env = "NOT_SET_HERE"', "NOT_SET_HERE is not set"),
        ("protocol = ", "security.toml: "),
    ],
)
def test_wrong_settings_are_refused(body, told, tmp_path):
    file = tmp_path / "security.toml"
    file.write_text(body)
    with pytest.raises(InvalidRequest, match=told):
        KafkaSecurity.from_file(file, environment={})
