"""Conditions of policy statements: operators, keys, and what they compare.

The rules are those of IAM. Values in a policy and in a request are text; an operator reads them as
text, number, moment, address or ARN. A value that cannot be read as the operator wants equals
nothing. A negated operator holds exactly where its positive twin does not.
"""

from __future__ import annotations

import datetime as dt
import decimal
import functools
import ipaddress
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, final

from featurestore.errors import InvalidRequest, nearest

__all__ = ["KEYS", "OPERATORS", "Condition", "ContextValue", "folded", "glob", "parse_conditions"]

# One value, or several where a key has many (`featureline:FeatureNames`).
ContextValue = str | tuple[str, ...]
Predicate = Callable[[str], bool]

# Keys a condition may name, in lower case as all keys are compared; a prefix ends in a slash.
KEYS: Final = {
    "aws:currenttime": "aws:CurrentTime",
    "aws:epochtime": "aws:EpochTime",
    "aws:sourceip": "aws:SourceIp",
    "aws:securetransport": "aws:SecureTransport",
    "aws:username": "aws:username",
    "aws:principalarn": "aws:PrincipalArn",
    "aws:principaltag/": "aws:PrincipalTag/KEY",
    "aws:resourcetag/": "aws:ResourceTag/KEY",
    "sagemaker:resourcetag/": "sagemaker:ResourceTag/KEY",
    "aws:requesttag/": "aws:RequestTag/KEY",
    "aws:tagkeys": "aws:TagKeys",
    "featureline:featurenames": "featureline:FeatureNames",
}
# Keys that stay as they are for the life of a token: decisions on them can be remembered.
STATIC_KEYS: Final = ("aws:username", "aws:principalarn", "aws:principaltag/")
TIME_KEYS: Final = frozenset({"aws:currenttime", "aws:epochtime"})

_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,4})?\Z")
_SECONDS: Final = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,9})?\Z")
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_QUANTIFIERS: Final = ("ForAllValues", "ForAnyValue")
_IF_EXISTS: Final = "IfExists"
_ARN_PARTS: Final = 6


@final
@dataclass(frozen=True, slots=True)
class Condition:
    """One operator on one key: it holds when the request's value fits one of the values.

    Args:
        operator: as written, with prefix and suffix.
        key: in lower case.
        values: as written, as text.
        predicates: one for each value.
        negated: no value may fit.
        if_exists: it holds where the request has no such key.
        quantifier: `ForAllValues`, `ForAnyValue`, or empty.
    """

    operator: str
    key: str
    values: tuple[str, ...]
    predicates: tuple[Predicate, ...] = field(repr=False, compare=False)
    negated: bool
    if_exists: bool
    quantifier: str

    @property
    def is_about_time(self) -> bool:
        """Whether it compares the time of the call."""
        return self.key in TIME_KEYS

    @property
    def is_static(self) -> bool:
        """Whether it gives the same answer for every call with one token."""
        return self.key.startswith(STATIC_KEYS)

    def holds(self, context: Mapping[str, ContextValue]) -> bool:
        """Say whether the condition holds for a request.

        A key that the request lacks: `Null: true`, negated operators, `…IfExists` and
        `ForAllValues:` hold, all others do not, nor does `ForAnyValue:`. An operator without
        quantifier on a key with several values holds when one of them fits; negated, when none.
        """
        found = context.get(self.key)
        if self.operator == "Null":
            return (found is None) == (self.values[0].lower() == "true")
        if found is None or found == ():
            if self.if_exists or self.quantifier == "ForAllValues":
                return True
            return self.negated and not self.quantifier
        values = (found,) if isinstance(found, str) else found
        if self.quantifier == "ForAllValues":
            return all(self._fits(value) != self.negated for value in values)
        if self.quantifier == "ForAnyValue":
            return any(self._fits(value) != self.negated for value in values)
        return any(self._fits(value) for value in values) != self.negated

    def shown(self, context: Mapping[str, ContextValue]) -> str:
        """Write the condition beside what the request has, for people."""
        found = context.get(self.key)
        got = "absent" if found is None else repr(found)
        wanted = self.values[0] if len(self.values) == 1 else list(self.values)
        return f"{self.operator} {self.key} {wanted!r}, which is {got} here"

    def _fits(self, value: str) -> bool:
        return any(predicate(value) for predicate in self.predicates)


class Operator(NamedTuple):
    """How an operator reads a policy's value: it raises ValueError where it cannot."""

    read: Callable[[str], Predicate]
    negated: bool = False


def folded(context: Mapping[str, ContextValue]) -> dict[str, ContextValue]:
    """Return a context with its keys in lower case; twins become one key with all their values.

    >>> folded({"aws:ResourceTag/Team": "a", "aws:ResourceTag/team": "b"})
    {'aws:resourcetag/team': ('a', 'b')}
    """
    keys: dict[str, ContextValue] = {}
    for key, value in context.items():
        lower = key.lower()
        keys[lower] = (*_several(keys[lower]), *_several(value)) if lower in keys else value
    return keys


def glob(pattern: str) -> Predicate:
    r"""Return whether a whole text fits a pattern: `*` any characters, `?` any one.

    Cost: O(len(pattern) · len(text)); no text makes it slower, since a part once found is not
    looked for again.

    >>> fits = glob("arn:*:feature-group/weather-?")
    >>> fits("arn:aws:sagemaker:local:1:feature-group/weather-1"), fits("weather-1")
    (True, False)
    """
    if pattern.strip("*") == "" and pattern:
        return _anything
    if "*" not in pattern and "?" not in pattern:
        return pattern.__eq__
    first, *rest = (_literal(part) for part in re.split(r"\*+", pattern))
    if not rest:
        expression = first
    else:
        *middle, last = rest
        # Atomic groups: the first place where a middle part is found is as good as any later one.
        expression = first + "".join(f"(?>.*?{part})" for part in middle) + ".*" + last
    match = re.compile(expression, re.DOTALL).fullmatch
    return lambda text: match(text) is not None


def _several(value: ContextValue) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else value


def _literal(part: str) -> str:
    return "".join("." if character == "?" else re.escape(character) for character in part)


def _anything(text: str) -> bool:
    return True


def _equal(value: str) -> Predicate:
    return value.__eq__


def _equal_in_any_case(value: str) -> Predicate:
    folded = value.casefold()
    return lambda text: text.casefold() == folded


def _boolean(value: str) -> Predicate:
    wanted = value.lower()
    if wanted not in ("true", "false"):
        raise ValueError("true or false")
    return lambda text: text.lower() == wanted


def _number(text: str) -> decimal.Decimal:
    if not _NUMBER.match(text):
        raise ValueError("a number")
    return decimal.Decimal(text)


def _moment(text: str) -> int:
    """Read a moment as µs since the epoch."""
    if _SECONDS.match(text):
        return int(decimal.Decimal(text) * 1_000_000)
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is not None and len(text) == len("2026-01-01"):
        moment = moment.replace(tzinfo=dt.UTC)
    if moment is None or moment.tzinfo is None:
        raise ValueError("a time like 2026-01-31T12:00:00Z, a date, or seconds since 1970")
    return (moment - _EPOCH) // dt.timedelta(microseconds=1)


def _compared(
    read: Callable[[str], decimal.Decimal] | Callable[[str], int], orders: str
) -> Callable[[str], Predicate]:
    """Compare the request's value with the policy's; `orders` has the results that fit."""

    def made(value: str) -> Predicate:
        bound = read(value)

        def fits(text: str) -> bool:
            try:
                found = read(text)
            except ValueError:
                return False
            return ("<" if found < bound else ">" if found > bound else "=") in orders

        return fits

    return made


def _address(value: str) -> Predicate:
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError("an IP address or a range like 10.0.0.0/8") from None

    def fits(text: str) -> bool:
        address = _parsed_address(text)
        return address is not None and address.version == network.version and address in network

    return fits


@functools.lru_cache(maxsize=4096)  # few callers make many calls, and reading one takes a while
def _parsed_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _arn(value: str) -> Predicate:
    """Compare part by part: a wildcard does not reach over a colon but in the last part."""
    parts = value.split(":", _ARN_PARTS - 1)
    if len(parts) < _ARN_PARTS or parts[0] != "arn":
        raise ValueError("an ARN of six parts, arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE")
    predicates = [glob(part) for part in parts]

    def fits(text: str) -> bool:
        found = text.split(":", _ARN_PARTS - 1)
        return len(found) == _ARN_PARTS and all(
            predicate(part) for predicate, part in zip(predicates, found, strict=True)
        )

    return fits


def _ordered(
    kind: str, read: Callable[[str], int] | Callable[[str], decimal.Decimal]
) -> dict[str, Operator]:
    return {
        f"{kind}Equals": Operator(_compared(read, "=")),
        f"{kind}NotEquals": Operator(_compared(read, "="), negated=True),
        f"{kind}LessThan": Operator(_compared(read, "<")),
        f"{kind}LessThanEquals": Operator(_compared(read, "<=")),
        f"{kind}GreaterThan": Operator(_compared(read, ">")),
        f"{kind}GreaterThanEquals": Operator(_compared(read, ">=")),
    }


OPERATORS: Final[dict[str, Operator]] = {
    "StringEquals": Operator(_equal),
    "StringNotEquals": Operator(_equal, negated=True),
    "StringEqualsIgnoreCase": Operator(_equal_in_any_case),
    "StringNotEqualsIgnoreCase": Operator(_equal_in_any_case, negated=True),
    "StringLike": Operator(glob),
    "StringNotLike": Operator(glob, negated=True),
    "Bool": Operator(_boolean),
    "Null": Operator(_boolean),
    **_ordered("Numeric", _number),
    **_ordered("Date", _moment),
    "IpAddress": Operator(_address),
    "NotIpAddress": Operator(_address, negated=True),
    "ArnEquals": Operator(_arn),
    "ArnLike": Operator(_arn),
    "ArnNotEquals": Operator(_arn, negated=True),
    "ArnNotLike": Operator(_arn, negated=True),
}


def parse_conditions(where: str, body: object) -> tuple[Condition, ...]:
    """Read a statement's Condition member; all of its conditions must hold.

    Raises:
        InvalidRequest: an operator or key is unknown, or a value is not what the operator compares.
    """
    if not isinstance(body, Mapping):
        raise InvalidRequest(f"{where}: expected an object of operators, got {_kind(body)}")
    conditions: list[Condition] = []
    for operator, keys in body.items():
        inside = f"{where}.{operator}"
        if not isinstance(keys, Mapping) or not keys:
            raise InvalidRequest(
                f"{inside}: expected an object of keys and values, got {_kind(keys)}"
            )
        conditions += [_condition(inside, operator, key, value) for key, value in keys.items()]
    return tuple(conditions)


def _condition(where: str, written: str, key: str, value: object) -> Condition:
    quantifier, colon, name = written.rpartition(":")
    base = name.removesuffix(_IF_EXISTS)
    operator = OPERATORS.get(base)
    if operator is None or (colon and quantifier not in _QUANTIFIERS):
        raise InvalidRequest(
            f"{where}: expected a condition operator, with ForAllValues: or ForAnyValue: before it "
            f"or IfExists behind it at most, got {written!r}{nearest(base, OPERATORS)}"
        )
    if base == "Null" and written != "Null":
        raise InvalidRequest(f"{where}: Null takes no prefix and no IfExists, got {written!r}")
    where = f"{where}[{key!r}]"
    values = tuple(_text(where, entry) for entry in _entries(where, value))
    predicates = []
    for entry in values:
        try:
            predicates.append(operator.read(entry))
        except ValueError as error:
            raise InvalidRequest(f"{where}: expected {error}, got {entry!r}") from None
    if base == "Null" and len(values) > 1:
        raise InvalidRequest(f"{where}: expected one of true and false, got {list(values)}")
    return Condition(
        written,
        _known_key(where, key),
        values,
        tuple(predicates),
        operator.negated,
        name != base,
        quantifier,
    )


def _known_key(where: str, key: str) -> str:
    # IAM compares keys, the names of tags among them, without regard to case.
    lower = key.lower()
    prefix, slash, rest = lower.partition("/")
    if prefix + slash not in KEYS or (slash and not rest):
        # A statement on a key that no request has would never act: a Deny that protects nothing.
        raise InvalidRequest(
            f"{where}: expected a key that requests have, got {key!r}"
            f"{nearest(key, KEYS.values())}; the keys are {', '.join(KEYS.values())}"
        )
    return lower


def _entries(where: str, value: object) -> Sequence[object]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return [value]
    if not value:
        raise InvalidRequest(f"{where}: expected at least one value, got an empty list")
    return value


def _text(where: str, value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if not isinstance(value, str):
        raise InvalidRequest(f"{where}: expected text, a number or a boolean, got {_kind(value)}")
    if "${" in value:
        raise InvalidRequest(
            f"{where}: expected plain text, got {value!r}: policy variables are not known here"
        )
    return value


def _kind(value: object) -> str:
    return f"{type(value).__name__} {value!r}"[:80]
