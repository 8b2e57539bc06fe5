"""The policy engine: against its oracle, by its laws, and what it refuses to read."""

from __future__ import annotations

import fnmatch
import json
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore import InvalidRequest
from featurestore.auth import AccessRequest, Effect, evaluate, explain, feature_arn, parse_policy
from featurestore.auth.condition import KEYS, OPERATORS, glob

# Small alphabets, so that patterns, values and requests meet often.
ACTIONS = ["sagemaker:GetRecord", "sagemaker:PutRecord", "SageMaker:getrecord", "featureline:Flush"]
ACTION_PATTERNS = [*ACTIONS, "*", "sagemaker:*", "*:Get*", "sagemaker:???Record", "s3:GetObject"]
GROUP = "arn:aws:sagemaker:us-east-1:1:feature-group/"
RESOURCES = [f"{GROUP}{n}" for n in ("a", "ab", "b", "a/feature/ssn", "b/feature/x", "*")]
RESOURCE_PATTERNS = ["*", GROUP + "*", GROUP + "a*", GROUP + "a", GROUP + "?", "arn:*/feature/ssn"]
TEXTS = ["a", "A", "ab", "", "team-1", "team-2", "true", "7", "ß"]
NUMBERS = ["7", "7.0", "-1", "8e2", "0.1"]
MOMENTS = ["2026-01-01T00:00:00Z", "2026-01-01", "2026-01-01T01:00:00+01:00", "1767225600", "0"]
ADDRESSES = ["10.0.0.7", "10.0.0.0/8", "10.0.0.7/31", "::1", "fe80::/10", "192.168.1.1"]
ARNS = [GROUP + "a", "arn:*:sagemaker:*:*:*", "arn:aws:iam::1:user/ada", "arn:aws:iam::*:user/*"]
KEY_NAMES = ["aws:username", "aws:ResourceTag/team", "AWS:resourcetag/TEAM", "aws:SourceIp"]

VALUES_BY_KIND = {
    "String": st.sampled_from([*TEXTS, "team-*", "?", "*"]),
    "Bool": st.sampled_from(["true", "false", "True", True, False]),
    "Null": st.sampled_from(["true", "false", True]),
    "Numeric": st.sampled_from([*NUMBERS, 7, 0.5]),
    "Date": st.sampled_from(MOMENTS),
    "Ip": st.sampled_from(ADDRESSES),
    "Arn": st.sampled_from(ARNS),
}
ANY_VALUE = st.sampled_from(
    [*TEXTS, *NUMBERS, *MOMENTS, "10.0.0.7", "::1", "::ffff:10.0.0.7", "nonsense", *ARNS]
)


def one_or_many(values, least=1):
    return values | st.lists(values, min_size=least, max_size=3)


@st.composite
def conditions(draw):
    operator = draw(st.sampled_from(sorted(OPERATORS)))
    kind = next(k for k in VALUES_BY_KIND if k in operator)
    values = VALUES_BY_KIND[kind]
    if operator != "Null":
        values = one_or_many(values)
        operator = draw(st.sampled_from(["", "ForAllValues:", "ForAnyValue:"])) + operator
        operator += draw(st.sampled_from(["", "IfExists"]))
    return {operator: {draw(st.sampled_from(KEY_NAMES)): draw(values)}}


@st.composite
def statements(draw):
    actions, resources = st.sampled_from(ACTION_PATTERNS), st.sampled_from(RESOURCE_PATTERNS)
    statement = {
        "Effect": draw(st.sampled_from(["Allow", "Allow", "Deny"])),
        draw(st.sampled_from(["Action", "NotAction"])): draw(one_or_many(actions)),
        draw(st.sampled_from(["Resource", "NotResource"])): draw(one_or_many(resources)),
    }
    for found in draw(st.lists(conditions(), max_size=2)):
        for operator, keys in found.items():
            statement.setdefault("Condition", {}).setdefault(operator, {}).update(keys)
    return statement


documents = st.lists(
    st.lists(statements(), min_size=1, max_size=3).map(lambda found: {"Statement": found}),
    max_size=3,
)
contexts = st.dictionaries(
    st.sampled_from(KEY_NAMES), ANY_VALUE | st.lists(ANY_VALUE, max_size=3).map(tuple), max_size=3
)
asked = st.tuples(st.sampled_from(ACTIONS), st.sampled_from(RESOURCES), contexts)


def parsed(found):
    return [
        statement
        for number, document in enumerate(found)
        for statement in parse_policy(f"p{number}", json.dumps(document)).statements
    ]


@given(documents, asked)
def test_it_decides_as_the_oracle_does(oracle, found, request_):
    decision = evaluate(parsed(found), AccessRequest(*request_))
    assert decision.effect == oracle.decide(found, *request_)


@given(conditions(), contexts)
def test_each_operator_holds_where_the_oracle_says_so(oracle, found, context):
    statement = {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": found}
    decision = evaluate(
        parse_policy("p", json.dumps({"Statement": statement})).statements,
        AccessRequest("sagemaker:GetRecord", "arn:x", context),
    )
    assert decision.is_allowed == oracle.conditions_hold(statement, context)


@given(documents, asked, st.randoms(use_true_random=False))
def test_the_order_of_statements_does_not_matter(found, request_, random):
    statements_ = parsed(found)
    before = evaluate(statements_, AccessRequest(*request_)).effect
    random.shuffle(statements_)
    assert evaluate(statements_, AccessRequest(*request_)).effect is before


@given(documents, asked)
def test_an_explicit_deny_wins_over_everything(found, request_):
    deny = {"Statement": {"Effect": "Deny", "Action": "*", "Resource": "*"}}
    decision = evaluate(parsed([*found, deny]), AccessRequest(*request_))
    assert decision.effect is Effect.DENY
    assert decision.statement is not None


@given(documents, asked, statements())
def test_another_allow_takes_nothing_away(found, request_, more):
    request = AccessRequest(*request_)
    before = evaluate(parsed(found), request)
    after = evaluate(parsed([*found, {"Statement": [more | {"Effect": "Allow"}]}]), request)
    assert after.is_allowed or not before.is_allowed


@given(documents, asked, statements())
def test_another_deny_gives_nothing(found, request_, more):
    request = AccessRequest(*request_)
    before = evaluate(parsed(found), request)
    after = evaluate(parsed([*found, {"Statement": [more | {"Effect": "Deny"}]}]), request)
    assert before.is_allowed or not after.is_allowed


@given(documents, contexts)
def test_what_no_statement_knows_is_never_allowed(found, context):
    named = [
        document
        for document in found
        if all(
            "Action" in statement and "*" not in json.dumps(statement["Action"])
            for statement in document["Statement"]
        )
    ]
    request = AccessRequest("unknown:Thing", GROUP + "a", context)
    decision = evaluate(parsed(named), request)
    assert (decision.effect, decision.statement) == (Effect.DENY, None)


@given(documents, asked)
def test_explaining_agrees_with_deciding(found, request_):
    request = AccessRequest(*request_)
    statements_ = parsed(found)
    decision, verdicts = explain(statements_, request)
    assert decision == evaluate(statements_, request)
    matching = {verdict.statement.effect for verdict in verdicts if verdict.matches}
    assert decision.is_allowed == (matching == {Effect.ALLOW})
    assert all(verdict.reason for verdict in verdicts)


@given(st.text("ab*?.\n[(", max_size=8), st.text("ab.\n[(", max_size=8))
def test_wildcards_are_what_a_regular_expression_makes_of_them(oracle, pattern, text):
    expected = oracle.fits(pattern, text)
    assert glob(pattern)(text) == expected
    simple = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    assert bool(re.fullmatch(simple, text, re.DOTALL)) == expected
    if "[" not in pattern:
        assert fnmatch.fnmatchcase(text, pattern) == expected


def test_no_pattern_is_slow_on_any_text():
    fits = glob("arn:" + "*a" * 200 + "*b")
    began = time.process_time()
    assert not fits("arn:" + "a" * 20_000)
    assert time.process_time() - began < 2


def test_every_operator_of_the_list_is_there():
    wanted = """StringEquals StringNotEquals StringEqualsIgnoreCase StringLike StringNotLike Bool
        NumericEquals NumericLessThan NumericGreaterThanEquals DateEquals DateNotEquals DateLessThan
        DateLessThanEquals DateGreaterThan DateGreaterThanEquals IpAddress NotIpAddress ArnLike
        ArnEquals Null"""
    assert set(wanted.split()) <= set(OPERATORS)


def test_a_deny_on_a_feature_is_about_that_feature_and_not_resource_spares_a_groups_features():
    policy = parse_policy(
        "p",
        json.dumps(
            {
                "Statement": {
                    "Effect": "Deny",
                    "Action": "*",
                    "NotResource": "arn:aws:sagemaker:*:*:feature-group/a",
                }
            }
        ),
    )
    [statement] = policy.statements
    assert not statement.has_resource(feature_arn("a", "ssn"))
    assert statement.has_resource(feature_arn("b", "ssn"))


GOOD = {"Effect": "Allow", "Action": "sagemaker:GetRecord", "Resource": "*"}


def changed(**members):
    return json.dumps({"Statement": [{k: v for k, v in (GOOD | members).items() if v is not None}]})


def with_condition(operator, key="aws:username", value="a"):
    return changed(Condition={operator: {key: value}})


@pytest.mark.parametrize(
    ("document", "where", "expected"),
    [
        ("{", "policy p", "expected JSON"),
        ("[]", "policy p", "expected a JSON object, got []"),
        ('{"Statement": [], "Statement": []}', "policy p", "'Statement' twice"),
        ("{}", "policy p.Statement", "expected a list of statements, got nothing"),
        ('{"Version": "2020-01-01"}', "policy p.Version", "expected 2012-10-17 or"),
        ('{"Statment": []}', "policy p", "did you mean 'Statement'?"),
        (changed(Effect="allow"), "Statement[0].Effect", 'expected Allow or Deny, got "allow"'),
        (changed(Acton="x"), "Statement[0]", "did you mean 'Action'?"),
        (changed(Principal="*"), "Statement[0]", "a policy is attached to tokens"),
        (changed(NotAction="*"), "Statement[0]", "one of Action and NotAction, got both"),
        (changed(Action=None), "Statement[0]", "one of Action and NotAction, got neither"),
        (changed(Action=[]), "Statement[0].Action", "got []"),
        (changed(Action=[7]), "Statement[0].Action", "expected text, got 7"),
        (changed(Action="GetRecord"), "Statement[0]", "an action like sagemaker:GetRecord"),
        (changed(Resource="weather"), "Statement[0]", "a resource like arn:aws:sagemaker"),
        (changed(Resource="arn:${aws:username}"), "Statement[0].Resource", "policy variables"),
        (changed(Sid=7), "Statement[0].Sid", "expected text of at most"),
        (changed(Condition=[]), "Statement[0].Condition", "an object of operators, got list"),
        (changed(Condition={"Bool": {}}), "Condition.Bool", "an object of keys and values"),
        (with_condition("StringEqual"), "StringEqual", "did you mean 'StringEquals'?"),
        (with_condition("ForSome:StringEquals"), "ForSome:StringEquals", "a condition operator"),
        (with_condition("NullIfExists"), "NullIfExists", "no prefix and no IfExists"),
        (with_condition("Bool", value="yes"), "Bool['aws:username']", "true or false, got 'yes'"),
        (with_condition("NumericEquals", value="x"), "NumericEquals", "a number, got 'x'"),
        (with_condition("NumericEquals", value="NaN"), "NumericEquals", "a number, got 'NaN'"),
        (with_condition("DateLessThan", value="2026-13-01"), "DateLessThan", "a time like"),
        (with_condition("DateLessThan", value="2026-01-01T00:00:00"), "DateLess", "a time like"),
        (with_condition("IpAddress", value="10.0.0.0/99"), "IpAddress", "an IP address or a range"),
        (with_condition("ArnLike", value="arn:aws"), "ArnLike", "an ARN of six parts"),
        (with_condition("StringEquals", value=[]), "StringEquals", "at least one value"),
        (with_condition("StringEquals", value={}), "StringEquals", "text, a number or a boolean"),
        (with_condition("StringEquals", value="${aws:username}"), "StringEq", "policy variables"),
        (with_condition("StringEquals", key="aws:SourceIP6"), "StringEquals", "aws:SourceIp"),
        (with_condition("StringEquals", key="aws:PrincipalTag/"), "StringEquals", "the keys are"),
        (with_condition("Null", value=["true", "false"]), "Null", "one of true and false"),
    ],
)
def test_a_document_that_breaks_a_rule_is_refused_with_the_place(document, where, expected):
    with pytest.raises(InvalidRequest) as refused:
        parse_policy("p", document)
    assert where in str(refused.value)
    assert expected in str(refused.value)


def test_two_statements_of_one_name_are_refused():
    with pytest.raises(InvalidRequest, match="each Sid once, got 'A' twice"):
        parse_policy("p", json.dumps({"Statement": [GOOD | {"Sid": "A"}, GOOD | {"Sid": "A"}]}))


def test_a_policy_that_is_too_long_is_refused():
    with pytest.raises(InvalidRequest, match="at most 65536 bytes"):
        parse_policy("p", changed(Sid="x" * 100) + " " * 70_000)


def test_a_deep_document_is_refused_and_not_a_crash():
    with pytest.raises(InvalidRequest, match="expected"):
        parse_policy("p", "[" * 30_000 + "]" * 30_000)


@pytest.mark.parametrize("name", ["", "a b", "a/b", "x" * 129])
def test_a_policy_needs_a_proper_name(name):
    with pytest.raises(InvalidRequest, match="policy name"):
        parse_policy(name, changed())


@pytest.mark.parametrize("key", [key for key in KEYS.values() if not key.endswith("KEY")])
def test_every_key_may_be_named_in_any_case(key):
    [statement] = parse_policy("p", with_condition("StringLike", key=key.upper())).statements
    assert statement.conditions[0].key == key.lower()


def test_explain_says_why_each_statement_does_not_match():
    inside = {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}
    policy = parse_policy(
        "p",
        json.dumps(
            {
                "Statement": [
                    GOOD | {"Sid": "Put", "Action": "sagemaker:PutRecord"},
                    GOOD | {"Sid": "Other", "Resource": "arn:other"},
                    GOOD | {"Sid": "Ip", "Condition": inside},
                    GOOD | {"Sid": "Spared", "NotResource": "*", "Resource": None},
                ]
            }
        ).replace(', "Resource": null', ""),
    )
    request = AccessRequest("sagemaker:GetRecord", "arn:x", {"aws:SourceIp": "192.168.0.1"})
    decision, verdicts = explain(policy.statements, request)
    assert decision.reason == "no statement allows it"
    assert [verdict.reason for verdict in verdicts] == [
        "action sagemaker:GetRecord is not sagemaker:putrecord",
        "resource arn:x is not arn:other",
        "condition does not hold: IpAddress aws:sourceip '10.0.0.0/8', which is '192.168.0.1' here",
        "resource arn:x is spared by *",
    ]


@pytest.mark.parametrize(
    ("operator", "values", "holds"),
    [
        ("StringEquals", ("ssn", "age"), True),
        ("StringEquals", ("age", "id"), False),
        ("StringNotEquals", ("ssn", "age"), False),
        ("StringNotEquals", ("age", "id"), True),
        ("StringNotEquals", None, True),
        ("ForAnyValue:StringNotEquals", ("ssn", "age"), True),
        ("ForAnyValue:StringNotEquals", ("ssn",), False),
        ("ForAnyValue:StringNotEquals", None, False),
        ("ForAnyValue:StringEqualsIfExists", None, True),
        ("ForAllValues:StringEquals", None, True),
        ("ForAllValues:StringEquals", ("ssn", "age"), False),
        ("StringEqualsIfExists", None, True),
        ("StringEquals", None, False),
    ],
)
def test_a_key_with_several_values_or_none(operator, values, holds):
    document = with_condition(operator, "featureline:FeatureNames", "ssn")
    context = {} if values is None else {"featureline:FeatureNames": values}
    decision = evaluate(
        parse_policy("p", document).statements, AccessRequest("sagemaker:GetRecord", "x", context)
    )
    assert decision.is_allowed == holds
