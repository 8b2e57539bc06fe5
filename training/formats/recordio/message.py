"""Protobuf's own objects of `aialgs.data.Record`, for records of an unusual form.

Record { map<string, Value> features = 1; map<string, Value> label = 2;
         optional string uid = 3, metadata = 4, configuration = 5 }
Value  { oneof: Float32Tensor float32_tensor = 2; Float64Tensor float64_tensor = 3;
         Int32Tensor int32_tensor = 7; Bytes bytes = 9 }
tensor { repeated values = 1; repeated uint64 keys = 2; repeated uint64 shape = 3 }, all packed
Bytes  { repeated bytes value = 1; optional string content_type = 2 }
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["record_class"]

_PACKAGE: Final = "aialgs.data"
_Field: Final = descriptor_pb2.FieldDescriptorProto
_TENSORS: Final = {
    "Float32Tensor": _Field.TYPE_FLOAT,
    "Float64Tensor": _Field.TYPE_DOUBLE,
    "Int32Tensor": _Field.TYPE_INT32,
}
_VALUES: Final = (
    ("float32_tensor", 2, "Float32Tensor"),
    ("float64_tensor", 3, "Float64Tensor"),
    ("int32_tensor", 7, "Int32Tensor"),
    ("bytes", 9, "Bytes"),
)


@cache
def record_class() -> Any:
    """Return the class of `aialgs.data.Record`.

    It lives in a descriptor pool of its own: a program that also imports SageMaker's library
    registers the same names in the default pool, and a second one there would be refused.
    """
    pool = descriptor_pool.DescriptorPool()
    pool.Add(_file())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Record"))


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="featureline/aialgs_data.proto", package=_PACKAGE, syntax="proto2"
    )
    for name, number_type in _TENSORS.items():
        tensor = file.message_type.add(name=name)
        _add(tensor, "values", 1, number_type, repeated=True, packed=True)
        _add(tensor, "keys", 2, _Field.TYPE_UINT64, repeated=True, packed=True)
        _add(tensor, "shape", 3, _Field.TYPE_UINT64, repeated=True, packed=True)
    held = file.message_type.add(name="Bytes")
    _add(held, "value", 1, _Field.TYPE_BYTES, repeated=True)
    _add(held, "content_type", 2, _Field.TYPE_STRING)
    value = file.message_type.add(name="Value")
    value.oneof_decl.add(name="value")
    for name, number, kind in _VALUES:
        _add(value, name, number, _Field.TYPE_MESSAGE, kind=kind).oneof_index = 0
    record = file.message_type.add(name="Record")
    for name, number, entry_name in (("features", 1, "FeaturesEntry"), ("label", 2, "LabelEntry")):
        entry = record.nested_type.add(name=entry_name)
        entry.options.map_entry = True
        _add(entry, "key", 1, _Field.TYPE_STRING)
        _add(entry, "value", 2, _Field.TYPE_MESSAGE, kind="Value")
        kind = f"Record.{entry_name}"
        _add(record, name, number, _Field.TYPE_MESSAGE, kind=kind, repeated=True)
    for number, name in enumerate(("uid", "metadata", "configuration"), 3):
        _add(record, name, number, _Field.TYPE_STRING)
    return file


def _add(
    message: descriptor_pb2.DescriptorProto,
    name: str,
    number: int,
    type: int,
    *,
    kind: str = "",
    repeated: bool = False,
    packed: bool = False,
) -> descriptor_pb2.FieldDescriptorProto:
    field = message.field.add(name=name, number=number)
    field.type = type  # type: ignore[assignment]
    field.label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    if kind:
        field.type_name = f".{_PACKAGE}.{kind}"
    if packed:
        field.options.packed = True
    return field
