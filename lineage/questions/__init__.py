"""Questions to the graph beyond a walk: paths, common ancestors, differences, accounts."""

from lineage.questions.ancestors import CommonEntities, CommonEntity
from lineage.questions.cause import Cause, DataChange, DataChanges, Difference
from lineage.questions.columns import FeatureUse
from lineage.questions.diff import LineageDiff, Outcome
from lineage.questions.events import EventSummary
from lineage.questions.explain import Explanation, Source
from lineage.questions.paths import LineagePath, Paths

__all__ = [  # noqa: RUF022 - by question
    # paths
    "LineagePath",
    "Paths",
    # common ancestors and descendants
    "CommonEntities",
    "CommonEntity",
    # why two entities differ
    "LineageDiff",
    "Difference",
    "Cause",
    "DataChange",
    "DataChanges",
    "Outcome",
    # where something comes from
    "Explanation",
    "Source",
    "EventSummary",
    "FeatureUse",
]
