"""The Protobuf compiler: from the text of .proto files to descriptors."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Final

from featurestore.record import shown
from ingest.errors import IngestError

__all__ = ["compile_protos"]

_COMPILE_TIMEOUT_S: Final = 60.0
_SELF: Final = "the-message-itself.proto"
# Files that Confluent's registry has without being given them: remarks that its tools attach to
# schemas, and decimals.
_KNOWN_FILES: Final[Mapping[str, str]] = {
    "confluent/meta.proto": "\n".join(
        [
            'syntax = "proto3"; package confluent; import "google/protobuf/descriptor.proto";',
            "message Meta {",
            "string doc = 1; map<string, string> params = 2; repeated string tags = 3;",
            "}",
            *(
                f"extend google.protobuf.{of}Options {{ Meta {name}_meta = 1088; }}"
                for of, name in (
                    ("File", "file"),
                    ("Message", "message"),
                    ("Field", "field"),
                    ("Enum", "enum"),
                    ("EnumValue", "enum_value"),
                )
            ),
        ]
    ),
    "confluent/type/decimal.proto": (
        'syntax = "proto3"; package confluent.type; '
        "message Decimal { bytes value = 1; uint32 precision = 2; int32 scale = 3; }"
    ),
}


def compile_protos(text: str, others: Mapping[str, str] | None = None) -> bytes:
    """Compile a .proto file's text into a descriptor set with all that it imports.

    Args:
        text: of the file. Google's well-known types, and Confluent's `meta.proto` and
            `decimal.proto`, can be imported without being given.
        others: the text of further files, by the name that `import` has for them.

    Raises:
        ValueError: it is no schema; with what the compiler says.
        IngestError: grpcio-tools is not installed, or does not come to an end.

    Cost: a process, about a quarter of a second.
    """
    if find_spec("grpc_tools") is None:
        raise IngestError(
            "Protobuf schemas as text need grpcio-tools: pip install 'featureline[protobuf]'"
        )
    with tempfile.TemporaryDirectory(prefix="featureline-protoc-") as folder:
        root = Path(folder).resolve()
        sources = root / "sources"
        for name, other in _with_known(text, others or {}).items():
            path = PurePosixPath(name)
            # The name comes from a registry and becomes a path.
            if path.is_absolute() or ".." in path.parts or "\0" in name or not path.name:
                raise ValueError(f"protobuf: expected a relative file name, got {shown(name)}")
            file = sources / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(other, encoding="utf-8")
        out = root / "descriptors"
        command = [sys.executable, "-m", "grpc_tools.protoc", f"--proto_path={sources}"]
        command += [f"--descriptor_set_out={out}", "--include_imports", _SELF]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                check=False,
                cwd=root,
                stdin=subprocess.DEVNULL,
                timeout=_COMPILE_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            raise IngestError(
                f"protobuf: the compiler did not end within {_COMPILE_TIMEOUT_S:g} s"
            ) from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").replace(f"{sources}/", "").strip()
            raise ValueError(f"protobuf: expected a schema, got: {said[-500:]}")
        return out.read_bytes()


def _with_known(text: str, others: Mapping[str, str]) -> dict[str, str]:
    files = {**others, _SELF: text}
    known = {
        name: known
        for name, known in _KNOWN_FILES.items()
        if any(f'"{name}"' in file for file in files.values())
    }
    return {**known, **files}
