from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Store(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STORE_UNSPECIFIED: _ClassVar[Store]
    ONLINE_STORE: _ClassVar[Store]
    OFFLINE_STORE: _ClassVar[Store]
STORE_UNSPECIFIED: Store
ONLINE_STORE: Store
OFFLINE_STORE: Store

class StringList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class IntegralList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, values: _Optional[_Iterable[int]] = ...) -> None: ...

class FractionalList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class Value(_message.Message):
    __slots__ = ("string_value", "integral_value", "fractional_value", "string_list", "integral_list", "fractional_list")
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    INTEGRAL_VALUE_FIELD_NUMBER: _ClassVar[int]
    FRACTIONAL_VALUE_FIELD_NUMBER: _ClassVar[int]
    STRING_LIST_FIELD_NUMBER: _ClassVar[int]
    INTEGRAL_LIST_FIELD_NUMBER: _ClassVar[int]
    FRACTIONAL_LIST_FIELD_NUMBER: _ClassVar[int]
    string_value: str
    integral_value: int
    fractional_value: float
    string_list: StringList
    integral_list: IntegralList
    fractional_list: FractionalList
    def __init__(self, string_value: _Optional[str] = ..., integral_value: _Optional[int] = ..., fractional_value: _Optional[float] = ..., string_list: _Optional[_Union[StringList, _Mapping]] = ..., integral_list: _Optional[_Union[IntegralList, _Mapping]] = ..., fractional_list: _Optional[_Union[FractionalList, _Mapping]] = ...) -> None: ...

class FeatureValue(_message.Message):
    __slots__ = ("feature_name", "value")
    FEATURE_NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    feature_name: str
    value: Value
    def __init__(self, feature_name: _Optional[str] = ..., value: _Optional[_Union[Value, _Mapping]] = ...) -> None: ...

class Record(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[FeatureValue]
    def __init__(self, values: _Optional[_Iterable[_Union[FeatureValue, _Mapping]]] = ...) -> None: ...

class TtlDuration(_message.Message):
    __slots__ = ("unit", "value")
    class Unit(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        UNIT_UNSPECIFIED: _ClassVar[TtlDuration.Unit]
        SECONDS: _ClassVar[TtlDuration.Unit]
        MINUTES: _ClassVar[TtlDuration.Unit]
        HOURS: _ClassVar[TtlDuration.Unit]
        DAYS: _ClassVar[TtlDuration.Unit]
        WEEKS: _ClassVar[TtlDuration.Unit]
    UNIT_UNSPECIFIED: TtlDuration.Unit
    SECONDS: TtlDuration.Unit
    MINUTES: TtlDuration.Unit
    HOURS: TtlDuration.Unit
    DAYS: TtlDuration.Unit
    WEEKS: TtlDuration.Unit
    UNIT_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    unit: TtlDuration.Unit
    value: int
    def __init__(self, unit: _Optional[_Union[TtlDuration.Unit, str]] = ..., value: _Optional[int] = ...) -> None: ...
