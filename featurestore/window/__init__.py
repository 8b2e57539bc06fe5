"""Windowed features: aggregates of a feature group's records over time windows.

`definition` says what they are, `aggregate` how they add up, `history` finds each window's events
in the offline store for datasets, `computed` and `exactsum` make the values of many windows,
`tile` keeps them up to date online, `check` derives them again.
"""

from featurestore.window.definition import (
    WINDOW_RULE_VERSION,
    Aggregation,
    WindowedFeature,
    WindowedGroup,
    Windows,
)

__all__ = [
    "WINDOW_RULE_VERSION",
    "Aggregation",
    "WindowedFeature",
    "WindowedGroup",
    "Windows",
]
