"""IAM's rules written a second time, slowly and on plain JSON, to compare the engine with."""

from __future__ import annotations

import datetime as dt
import ipaddress
from fractions import Fraction


def fits(pattern: str, text: str) -> bool:
    """Whether a text fits a pattern of * and ?, letter by letter."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return fits(pattern[1:], text) or (bool(text) and fits(pattern, text[1:]))
    if not text:
        return False
    return pattern[0] in ("?", text[0]) and fits(pattern[1:], text[1:])


def decide(documents, action, resource, context):
    """Return "Allow" or "Deny"."""
    effects = {
        statement["Effect"]
        for document in documents
        for statement in document["Statement"]
        if speaks(statement, action, resource) and conditions_hold(statement, context)
    }
    return "Allow" if effects == {"Allow"} else "Deny"


def speaks(statement, action, resource):
    if "Action" in statement:
        about = any(fits(p.lower(), action.lower()) for p in listed(statement["Action"]))
    else:
        about = not any(fits(p.lower(), action.lower()) for p in listed(statement["NotAction"]))
    if "Resource" in statement:
        return about and any(fits(p, resource) for p in listed(statement["Resource"]))
    names = [resource]
    if ":feature-group/" in resource and "/feature/" in resource:
        names.append(resource[: resource.index("/feature/")])
    spared = any(fits(p, name) for p in listed(statement["NotResource"]) for name in names)
    return about and not spared


def conditions_hold(statement, context):
    return all(
        holds(operator, key, [text(value) for value in listed(values)], context)
        for operator, keys in statement.get("Condition", {}).items()
        for key, values in keys.items()
    )


def holds(operator, key, wanted, context):
    values = []
    present = False
    for name, value in context.items():
        if name.lower() == key.lower():
            found = [value] if isinstance(value, str) else list(value)
            present = present or value != ()
            values += found
    if operator == "Null":
        absent = not any(name.lower() == key.lower() for name in context)
        return absent == (wanted[0].lower() == "true")
    quantifier, _, name = operator.rpartition(":")
    lenient = name.endswith("IfExists")
    name = name.removesuffix("IfExists")
    negated = "Not" in name
    name = name.replace("Not", "", 1)
    if not present:
        if lenient or quantifier == "ForAllValues":
            return True
        return negated and quantifier == ""
    found = [any(compare(name, value, one) for one in wanted) for value in values]
    if quantifier == "ForAllValues":
        return all(f != negated for f in found)
    if quantifier == "ForAnyValue":
        return any(f != negated for f in found)
    return any(found) if not negated else not any(found)


def compare(name, value, wanted):
    """Whether a positive operator holds between the request's value and the policy's."""
    if name == "StringEquals":
        return value == wanted
    if name == "StringEqualsIgnoreCase":
        return value.casefold() == wanted.casefold()
    if name == "StringLike":
        return fits(wanted, value)
    if name == "Bool":
        return value.lower() == wanted.lower()
    if name == "IpAddress":
        return inside(value, wanted)
    if name in ("ArnEquals", "ArnLike"):
        parts, patterns = value.split(":", 5), wanted.split(":", 5)
        return len(parts) == 6 and all(map(fits, patterns, parts))
    kind = "Numeric" if name.startswith("Numeric") else "Date"
    read = number if kind == "Numeric" else moment
    left, right = read(value), read(wanted)
    if left is None:
        return False
    return {
        "Equals": left == right,
        "LessThan": left < right,
        "LessThanEquals": left <= right,
        "GreaterThan": left > right,
        "GreaterThanEquals": left >= right,
    }[name.removeprefix(kind)]


def inside(value, wanted):
    """Compare addresses bit by bit."""
    network = ipaddress.ip_network(wanted, strict=False)
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    if address.version != network.version:
        return False
    free = address.max_prefixlen - network.prefixlen
    return int(address) >> free == int(network.network_address) >> free


def number(value):
    try:
        return Fraction(value)
    except ValueError:
        return None


def moment(value):
    if value.lstrip("-").replace(".", "").isdigit():
        return number(value)
    try:
        found = dt.datetime.fromisoformat(value)
    except ValueError:
        return None
    if found.tzinfo is None:
        found = found.replace(tzinfo=dt.UTC)
    return Fraction(found.timestamp()).limit_denominator(1_000_000)


def text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def listed(value):
    return value if isinstance(value, list) else [value]
