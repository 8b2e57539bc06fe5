"""A schema registry as a process of its own, with the REST interface that Confluent's has.

    python registry_server.py [--login USER:PASSWORD] [--token TOKEN]
                              [--certificate FILE]

Prints its port when it answers. Schemas get ids in the whole registry, one for equal ones, and a
version in each subject; they may refer to others; a subject's next version has to be compatible
with the last (BACKWARD unless `/config` says otherwise). Everything is in memory.

Beside the interface: `POST /faults {"status": S, "count": N}` has the next N requests answered
with S, `GET /requests` tells the paths that were asked since it was last asked.
"""

from __future__ import annotations

import argparse
import base64
import json
import re
import ssl
import sys
import tempfile
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

PROMOTIONS = {
    "int": {"long", "float", "double"},
    "long": {"float", "double"},
    "float": {"double"},
    "string": {"bytes"},
    "bytes": {"string"},
}


class Refused(Exception):
    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


class Registry:
    def __init__(self) -> None:
        self.schemas: list[dict[str, Any]] = []
        self.subjects: dict[str, list[int]] = {}
        self.levels: dict[str, str] = {}
        self.lock = threading.Lock()

    def by_id(self, number: int) -> dict[str, Any]:
        if not 0 < number <= len(self.schemas):
            raise Refused(404, 40403, "Schema not found")
        return self.schemas[number - 1]

    def version(self, subject: str, version: str) -> dict[str, Any]:
        ids = self.subjects.get(subject)
        if ids is None:
            raise Refused(404, 40401, f"Subject '{subject}' not found.")
        place = len(ids) if version == "latest" else int(version)
        if not 0 < place <= len(ids):
            raise Refused(404, 40402, f"Version {version} not found.")
        number = ids[place - 1]
        return {"subject": subject, "version": place, "id": number, **self.by_id(number)}

    def places(self, number: int) -> list[dict[str, Any]]:
        self.by_id(number)
        return [
            {"subject": subject, "version": ids.index(number) + 1}
            for subject, ids in self.subjects.items()
            if number in ids
        ]

    def register(self, subject: str, body: dict[str, Any]) -> int:
        schema = self.checked(body)
        if problems := self.incompatible(subject, schema):
            raise Refused(409, 409, f"Schema is incompatible with an earlier one: {problems[0]}")
        if schema not in self.schemas:
            self.schemas.append(schema)
        number = self.schemas.index(schema) + 1
        ids = self.subjects.setdefault(subject, [])
        if number not in ids:
            ids.append(number)
        return number

    def checked(self, body: dict[str, Any]) -> dict[str, Any]:
        kind = body.get("schemaType") or "AVRO"
        if kind not in KINDS:
            raise Refused(422, 42201, f"Invalid schema type {kind}")
        schema: dict[str, Any] = {"schema": body["schema"]}
        if kind != "AVRO":
            schema["schemaType"] = kind
        if body.get("references"):
            schema["references"] = body["references"]
        try:
            KINDS[kind][0](self, schema)
        except Exception as error:  # whatever a library says of a schema
            raise Refused(422, 42201, f"Invalid schema: {error}") from error
        return schema

    def referenced(self, schema: dict[str, Any]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        for one in schema.get("references", ()):
            other = self.version(one["subject"], str(one["version"]))
            found |= self.referenced(other)
            found[one["name"]] = other
        return found

    def incompatible(self, subject: str, schema: dict[str, Any]) -> list[str]:
        ids = self.subjects.get(subject, [])
        level = self.levels.get(subject, self.levels.get("", "BACKWARD"))
        earlier = ids if level.endswith("_TRANSITIVE") else ids[-1:]
        problems = []
        for number in earlier:
            other = self.by_id(number)
            kind = schema.get("schemaType", "AVRO")
            if other.get("schemaType", "AVRO") != kind:
                problems.append("it is of another type")
                continue
            compare = KINDS[kind][1]
            if level.startswith(("BACKWARD", "FULL")):
                problems += compare(self, schema, other)
            if level.startswith(("FORWARD", "FULL")):
                problems += compare(self, other, schema)
        return problems


# Libraries are imported where they are used: a process for Avro shall start at once.


def avro(registry: Registry, schema: dict[str, Any]) -> Any:
    import fastavro

    named: dict[str, Any] = {}
    for other in registry.referenced(schema).values():
        fastavro.parse_schema(json.loads(other["schema"]), named_schemas=named)
    return fastavro.parse_schema(json.loads(schema["schema"]), named_schemas=named), named


def avro_problems(
    registry: Registry, reading: dict[str, Any], writing: dict[str, Any]
) -> list[str]:
    """Tell why data of one schema could not be read by the other (Avro 1.11, resolution)."""
    reader, reader_types = avro(registry, reading)
    writer, writer_types = avro(registry, writing)

    def full(schema: Any, types: dict[str, Any]) -> Any:
        return types.get(schema, schema) if isinstance(schema, str) else schema

    def kind(schema: Any) -> str:
        return schema if isinstance(schema, str) else schema["type"]

    def problems(r: Any, w: Any, path: str) -> list[str]:
        r, w = full(r, reader_types), full(w, writer_types)
        if isinstance(w, list):
            return [problem for branch in w for problem in problems(r, branch, path)]
        if isinstance(r, list):
            fits = any(not problems(branch, w, path) for branch in r)
            return [] if fits else [f"{path}: no branch of the union reads {kind(w)}"]
        if kind(r) != kind(w):
            if kind(r) in PROMOTIONS.get(kind(w), ()):
                return []
            return [f"{path}: {kind(w)} is not read as {kind(r)}"]
        if kind(r) == "record":
            old = {field["name"]: field for field in w["fields"]}
            found = []
            for field in r["fields"]:
                names = [field["name"], *field.get("aliases", ())]
                match = next((old[name] for name in names if name in old), None)
                if match is not None:
                    found += problems(field["type"], match["type"], f"{path}/{field['name']}")
                elif "default" not in field:
                    found.append(f"{path}/{field['name']}: added without a default")
            return found
        if kind(r) == "enum" and "default" not in r:
            missing = [symbol for symbol in w["symbols"] if symbol not in r["symbols"]]
            return [f"{path}: symbol {symbol} is gone" for symbol in missing]
        for inner in ("items", "values"):
            if isinstance(r, dict) and inner in r:
                return problems(r[inner], w[inner], f"{path}/{inner}")
        return []

    return problems(reader, writer, "")


def protobuf(registry: Registry, schema: dict[str, Any]) -> Any:
    from google.protobuf import descriptor_pb2
    from grpc_tools import protoc

    files = {name: other["schema"] for name, other in registry.referenced(schema).items()}
    with tempfile.TemporaryDirectory() as folder:
        for name, text in {**files, "schema.proto": schema["schema"]}.items():
            file = Path(folder, name)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        known = Path(protoc.__file__).parent / "_proto"
        command = ["protoc", f"-I{folder}", f"-I{known}", f"--descriptor_set_out={folder}/out"]
        if protoc.main([*command, "schema.proto"]):
            raise ValueError("protoc refuses it")
        found = descriptor_pb2.FileDescriptorSet.FromString(Path(folder, "out").read_bytes())
    return found.file[0]


def protobuf_problems(
    registry: Registry, reading: dict[str, Any], writing: dict[str, Any]
) -> list[str]:
    def fields(types: Any, prefix: str = "") -> dict[tuple[str, int], tuple[int, int]]:
        found = {}
        for one in types:
            name = f"{prefix}{one.name}"
            found |= {(name, field.number): (field.type, field.label) for field in one.field}
            found |= fields(one.nested_type, f"{name}.")
        return found

    old = fields(protobuf(registry, writing).message_type)
    new = fields(protobuf(registry, reading).message_type)
    return [
        f"field {number} of {message} changed its type"
        for (message, number), kind in new.items()
        if old.get((message, number), kind) != kind
    ]


def json_schema(registry: Registry, schema: dict[str, Any]) -> Any:
    import jsonschema

    parsed = json.loads(schema["schema"])
    try:
        jsonschema.validators.validator_for(parsed).check_schema(parsed)
    except jsonschema.SchemaError as error:
        raise ValueError(error.message) from error
    return parsed


def json_problems(
    registry: Registry, reading: dict[str, Any], writing: dict[str, Any]
) -> list[str]:
    new, old = json_schema(registry, reading), json_schema(registry, writing)
    known = old.get("properties", {})
    changed = [
        f"{name} changed its type"
        for name, schema in new.get("properties", {}).items()
        if name in known and schema.get("type") != known[name].get("type")
    ]
    added = set(new.get("required", ())) - set(old.get("required", ()))
    return changed + [f"{name} became required" for name in sorted(added)]


KINDS: dict[str, tuple[Callable[..., Any], Callable[..., list[str]]]] = {
    "AVRO": (avro, avro_problems),
    "PROTOBUF": (protobuf, protobuf_problems),
    "JSON": (json_schema, json_problems),
}


class Handler(BaseHTTPRequestHandler):
    registry = Registry()
    expected: str | None = None
    fault: ClassVar = [0, 0]  # one server in a process
    asked: ClassVar[list[str]] = []
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.reply_to("GET", None)

    def do_POST(self) -> None:
        self.reply_to("POST", self.body())

    def do_PUT(self) -> None:
        self.reply_to("PUT", self.body())

    def body(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")

    def reply_to(self, method: str, body: Any) -> None:
        with self.registry.lock:
            try:
                status, reply = 200, self.answer(method, body)
            except Refused as error:
                status = error.status
                reply = {"error_code": error.code, "message": str(error)}
        data = reply if isinstance(reply, bytes) else json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def answer(self, method: str, body: Any) -> Any:
        parts = urlsplit(self.path)
        path = [unquote(part) for part in parts.path.strip("/").split("/")]
        if path == ["faults"]:
            self.fault[:] = [body["status"], body["count"]]
            return {}
        if path == ["requests"]:
            asked, Handler.asked = self.asked, []
            return asked
        self.asked.append(f"{method} {parts.path}")
        if self.fault[1] > 0:
            self.fault[1] -= 1
            raise Refused(self.fault[0], self.fault[0] * 100 + 1, "Error in the backend data store")
        if self.expected is not None and self.headers.get("Authorization") != self.expected:
            raise Refused(401, 40101, "Unauthorized")
        registry = self.registry
        match method, path:
            case "GET", ["schemas", "ids", number]:
                return registry.by_id(int(number))
            case "GET", ["schemas", "ids", number, "versions"]:
                return registry.places(int(number))
            case "GET", ["subjects"]:
                return sorted(registry.subjects)
            case "GET", ["subjects", subject, "versions", version]:
                return registry.version(subject, version)
            case "POST", ["subjects", subject, "versions"]:
                return {"id": registry.register(subject, body)}
            case "POST", ["compatibility", "subjects", subject, "versions", version]:
                registry.version(subject, version)
                problems = registry.incompatible(subject, registry.checked(body))
                reply: dict[str, Any] = {"is_compatible": not problems}
                if parse_qs(parts.query).get("verbose") == ["true"]:
                    reply["messages"] = problems
                return reply
            case "PUT", ["config", *subject]:
                level = body["compatibility"]
                if not re.fullmatch(r"NONE|(BACKWARD|FORWARD|FULL)(_TRANSITIVE)?", level):
                    raise Refused(422, 42203, "Invalid compatibility level")
                registry.levels[subject[0] if subject else ""] = level
                return {"compatibility": level}
        raise Refused(404, 404, "HTTP 404 Not Found")

    def log_message(self, format: str, *args: object) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--login")
    parser.add_argument("--token")
    parser.add_argument("--certificate")
    options = parser.parse_args()
    if options.login:
        Handler.expected = "Basic " + base64.b64encode(options.login.encode()).decode()
    if options.token:
        Handler.expected = f"Bearer {options.token}"
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()  # until the one who started it is gone


if __name__ == "__main__":
    main()
