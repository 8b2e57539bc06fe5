"""The registry's client against a registry process: schemas, caches, faults, secrets."""

from __future__ import annotations

import contextlib
import datetime as dt
import http.server
import ipaddress
import json
import logging
import threading

import pytest

from ingest import (
    IngestError,
    JsonSchemaDecoder,
    Message,
    Reference,
    RegistryRefused,
    RegistryUnavailable,
    SchemaNotFound,
    SchemaRegistry,
    SourceUnavailable,
    Undecodable,
)

RECORD = {"type": "record", "name": "Reading", "fields": [{"name": "station", "type": "long"}]}


def avro(*fields: dict[str, object]) -> str:
    return json.dumps({**RECORD, "fields": [*RECORD["fields"], *fields]})


def test_a_schema_comes_back_with_its_place(registry):
    number = registry.register("place/of a?subject", avro())
    schema = registry.schema(number)
    assert (schema.id, schema.kind, json.loads(schema.text)) == (number, "AVRO", RECORD)
    assert (schema.subject, schema.version) == ("place/of a?subject", 1)
    assert str(schema) == f"schema {number} (place/of a?subject version 1)"
    assert registry.version("place/of a?subject") == registry.version("place/of a?subject", 1)
    assert registry.register("place/of a?subject", avro()) == number


def test_a_schema_is_asked_for_once_by_however_many_threads(registry, registry_process):
    number = registry.register("once", avro({"name": "once", "type": "int", "default": 0}))
    registry_process.call("/requests")
    together = threading.Barrier(8)

    def ask() -> None:
        together.wait()
        registry.schema(number)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry_process.call("/requests") == [
        f"GET /schemas/ids/{number}",
        f"GET /schemas/ids/{number}/versions",
    ]


def test_the_cache_holds_so_many(registry_process):
    registry = SchemaRegistry(registry_process.url, max_cached=2)
    numbers = [
        registry.register(f"bounded-{n}", avro({"name": f"b{n}", "type": "int", "default": 0}))
        for n in range(3)
    ]
    for number in numbers:
        registry.schema(number)
    registry_process.call("/requests")
    registry.schema(numbers[2])
    assert registry_process.call("/requests") == []
    registry.schema(numbers[0])
    assert len(registry_process.call("/requests")) == 2


def test_what_is_not_there_is_known_for_a_while_only(registry, registry_process, monkeypatch):
    with pytest.raises(SchemaNotFound, match=r"has no .*schemas/ids/9999"):
        registry.schema(9999)
    registry_process.call("/requests")
    with pytest.raises(SchemaNotFound):
        registry.schema(9999)
    assert registry_process.call("/requests") == []
    monkeypatch.setattr("ingest.registry.MISSING_S", 0.0)
    with pytest.raises(SchemaNotFound):
        registry.schema(9999)
    assert len(registry_process.call("/requests")) == 1
    with pytest.raises(SchemaNotFound, match="Subject 'nobody' not found"):
        registry.version("nobody")


def test_references_come_before_what_builds_on_them(registry):
    city = {"type": "record", "name": "x.City", "fields": [{"name": "name", "type": "string"}]}
    address = {"type": "record", "name": "x.Address", "fields": [{"name": "c", "type": "x.City"}]}
    home = {"type": "record", "name": "x.Home", "fields": [{"name": "a", "type": "x.Address"}]}
    registry.register("city", json.dumps(city))
    to_city = Reference("x.City", "city", 1)
    registry.register("address", json.dumps(address), references=[to_city])
    to_address = Reference("x.Address", "address", 1)
    number = registry.register("home", json.dumps(home), references=[to_address])
    schema = registry.schema(number)
    assert schema.references == (to_address,)
    assert [name for name, _ in registry.referenced(schema)] == ["x.City", "x.Address"]


def test_compatibility_is_asked_and_kept(registry, registry_process):
    registry.register("evolving", avro())
    added = avro({"name": "temp", "type": "double"})
    assert registry.incompatibilities("evolving", added) == ("/temp: added without a default",)
    with pytest.raises(RegistryRefused, match=r"HTTP 409.*incompatible"):
        registry.register("evolving", added)
    with_default = avro({"name": "temp", "type": "double", "default": 0.0})
    assert registry.incompatibilities("evolving", with_default) == ()
    registry.register("evolving", with_default)
    assert registry.version("evolving").version == 2
    registry_process.call("/config/evolving", {"compatibility": "NONE"}, "PUT")
    registry.register("evolving", avro({"name": "other", "type": "int"}))
    with pytest.raises(RegistryRefused, match=r"HTTP 422.*Invalid schema"):
        registry.register("evolving", '{"type": "nonsense"}')


def test_a_registry_that_stumbles_is_asked_again(registry, registry_process, caplog):
    number = registry.register("stumbling", avro({"name": "s", "type": "int", "default": 0}))
    registry_process.call("/faults", {"status": 503, "count": 2})
    with caplog.at_level(logging.WARNING):
        assert registry.schema(number).id == number
    assert "HTTP 503 'Error in the backend data store'; trying again" in caplog.text


def test_a_registry_that_is_away_refuses_no_message(run_registry):
    with run_registry() as process:
        registry = SchemaRegistry(process.url, retry_s=0.1)
        number = registry.register("away", '{"type": "object"}', kind="JSON")
        other = registry.register("away", '{"type": "object", "title": "2"}', kind="JSON")
        decoder = JsonSchemaDecoder(registry=registry)
        known = Message("0", 0, b"\0" + number.to_bytes(4, "big") + b'{"a": 1}')
        assert decoder.decode(known) == {"a": 1}
    assert decoder.decode(known) == {"a": 1}
    with pytest.raises(
        RegistryUnavailable, match=r"no schema registry answers within 0.1 s"
    ) as away:
        decoder.decode(Message("0", 1, b"\0" + other.to_bytes(4, "big") + b"{}"))
    assert isinstance(away.value, SourceUnavailable)
    assert not isinstance(away.value, Undecodable)


def test_the_next_of_several_is_asked(registry_process, registry):
    number = registry.register("several", avro({"name": "v", "type": "int", "default": 0}))
    both = SchemaRegistry(f"http://127.0.0.1:9, {registry_process.url}", retry_s=0.1)
    assert both.schema(number).id == number
    assert both.url == f"http://127.0.0.1:9,{registry_process.url}"


@pytest.mark.parametrize(
    ("option", "right", "wrong"),
    [
        ("--login", {"login": "reader:s3cret/"}, {"login": "reader:wr0ng"}),
        ("--token", {"token": "s3cret/"}, {"token": "wr0ng"}),
    ],
)
def test_secrets_open_the_door_and_are_never_shown(
    run_registry, option, right, wrong, caplog, monkeypatch
):
    caplog.set_level(logging.DEBUG)
    (secret,) = right.values()
    with run_registry(option, secret) as process:
        registry = SchemaRegistry(process.url, **right)
        assert registry.register("guarded", avro()) == 1
        for arguments in (wrong, {}):
            with pytest.raises(RegistryRefused, match="HTTP 401; check who this is") as refusal:
                SchemaRegistry(process.url, **arguments).schema(1)
            assert "wr0ng" not in str(refusal.value)
        if option == "--login":
            url = process.url.replace("//", "//reader:s3cret%2F@")
            in_url = SchemaRegistry(url, retry_s=0.1)
            assert in_url.schema(1).id == 1
    for shown in (repr(registry), repr(in_url if option == "--login" else registry), caplog.text):
        assert "s3cret" not in shown
    if option == "--login":
        with pytest.raises(RegistryUnavailable) as away:
            in_url.schema(2)
        assert "s3cret" not in str(away.value)


def test_tls_with_a_file_of_authorities(run_registry, tmp_path):
    certificate = _certificate(tmp_path / "registry.pem")
    with run_registry("--certificate", certificate, scheme="https") as process:
        trusting = SchemaRegistry(process.url, ca_file=certificate)
        assert trusting.register("over-tls", avro()) == 1
        with pytest.raises(RegistryRefused, match=r"certificate is not trusted .*authority"):
            SchemaRegistry(process.url).schema(1)
    with pytest.raises(IngestError, match="expected certificates in PEM"):
        SchemaRegistry("https://registry:8081", ca_file=str(tmp_path / "none.pem"))


@pytest.mark.parametrize(
    ("status", "body"), [(200, b"<html>"), (302, b"<html>"), (404, b"<html>"), (200, b'{"a": 1}')]
)
def test_what_is_no_registry_is_not_the_word_that_there_is_no_schema(status, body):
    with (
        _answering({}, status, body) as url,
        pytest.raises(RegistryRefused, match=r"check the URL"),
    ):
        SchemaRegistry(url).schema(1)


def test_a_plain_not_found_counts_where_all_else_says_that_this_is_a_registry():
    with _answering({"/subjects": b"[]"}, 404, b'{"error_code": 404}') as url:
        with pytest.raises(SchemaNotFound):
            SchemaRegistry(url).schema(1)
        with pytest.raises(RegistryRefused):
            SchemaRegistry(url).version("nobody")


@contextlib.contextmanager
def _answering(known, status, body):
    """Serve known paths, and one answer for all others; its URL."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply = known.get(self.path)
            self.send_response(status if reply is None else 200)
            self.send_header("Location", "http://127.0.0.1:9/")
            self.send_header("Content-Length", str(len(body if reply is None else reply)))
            self.end_headers()
            self.wfile.write(body if reply is None else reply)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def test_a_path_that_the_registry_does_not_have_is_a_wrong_url(registry_process):
    with pytest.raises(RegistryRefused, match=r"HTTP 404, 'HTTP 404 Not Found'"):
        SchemaRegistry(f"{registry_process.url}/elsewhere").schema(1)


@pytest.mark.parametrize(
    ("url", "options", "text"),
    [
        ("", {}, "expected a URL such as"),
        ("ftp://registry", {}, "expected http://HOST:PORT"),
        ("http://u:s3cret@registry:x", {}, "expected http://HOST:PORT"),
        ("http://registry", {"login": "a:b", "token": "c"}, "got both"),
        ("http://registry", {"login": "s3cret"}, "expected USER:PASSWORD"),
        ("http://registry", {"token": "s3cret\nX: y"}, "expected printable ASCII text"),
        ("http://registry", {"token": ""}, "expected printable ASCII text"),
    ],
)
def test_wrong_arguments_are_told_without_secrets(url, options, text):
    with pytest.raises(ValueError, match=text) as refusal:
        SchemaRegistry(url, **options)
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize(
    ("value", "where", "expected", "got"),
    [
        (b"", "byte 0", "0x00", "the end"),
        (b"{}", "byte 0", "0x00", "0x7b"),
        (b"\0\0\0", "bytes 1 to 4", "a schema id", "the end after 3 bytes"),
        (b"\0\0\0\x27\x10{}", "schema id", "one that http://", "10000"),
        (b"\0\0\0\0\0{}", "schema id", "a positive number", "0"),
        (b"\0\xff\xff\xff\xfe{}", "schema id", "a positive number", "-2"),
        (None, "message", "a JSON object", "no value (a tombstone)"),
        ({"a": 1}, "message", "a JSON object", "a row"),
    ],
)
def test_a_message_without_a_schema_is_refused(registry, value, where, expected, got):
    decoder = JsonSchemaDecoder(registry=registry)
    with pytest.raises(Undecodable) as refusal:
        decoder.decode(Message("0", 0, value))
    assert refusal.value.where == where
    assert expected in refusal.value.expected
    assert got in refusal.value.got


def test_a_schema_that_cannot_be_used_refuses_its_messages_without_more_requests(
    registry, registry_process, wire
):
    decoder = JsonSchemaDecoder(registry=registry)
    number = registry.register("of-another-kind", avro({"name": "k", "type": "int", "default": 0}))
    for _ in range(2):
        with pytest.raises(Undecodable, match=r"schema \d+ \(of-another-kind version 1\)") as told:
            decoder.decode(Message("0", 0, wire(number, b"{}")))
        assert (told.value.expected, told.value.got) == ("a schema of JSON", "AVRO")
        registry_process.call("/requests")
    assert registry_process.call("/requests") == []


def _certificate(path):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    now = dt.datetime.now(dt.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return str(path)
