"""Who may do what: policies, bearer tokens, the guard of a server, and the audit log.

>>> import pathlib, tempfile
>>> home = pathlib.Path(tempfile.mkdtemp())
>>> database = AccessDatabase(home)
>>> _ = database.put_policy(
...     "readers",
...     '''{"Statement": [{"Effect": "Allow",
...     "Action": "sagemaker:GetRecord", "Resource": "arn:aws:sagemaker:*:*:feature-group/*"}]}''',
... )
>>> token = database.create_token("ada", ["readers"]).text
>>> with Guard.open(home) as guard:
...     caller = guard.authenticate(token, "127.0.0.1")
...     guard.authorize(caller, "sagemaker:GetRecord", group_arn("weather"))
...     caller.principal
'ada'
>>> database.close()
"""

from featurestore.auth.arn import arn, feature_arn, group_arn
from featurestore.auth.audit import AuditLog
from featurestore.auth.condition import Condition, ContextValue
from featurestore.auth.database import AccessDatabase
from featurestore.auth.guard import Caller, Guard
from featurestore.auth.policy import (
    AccessRequest,
    Decision,
    Effect,
    Policy,
    Statement,
    Verdict,
    evaluate,
    explain,
    parse_policy,
)
from featurestore.auth.token import Token

__all__ = [  # noqa: RUF022  # grouped by topic
    # policies
    "evaluate",
    "explain",
    "parse_policy",
    "Policy",
    "Statement",
    "Condition",
    "ContextValue",
    "Effect",
    "AccessRequest",
    "Decision",
    "Verdict",
    "arn",
    "group_arn",
    "feature_arn",
    # tokens, and what is kept of them
    "AccessDatabase",
    "Token",
    # at a server
    "Guard",
    "Caller",
    "AuditLog",
]
