"""The report of a job: one HTML file without outside parts, with what was measured as pictures."""

from __future__ import annotations

from training.report.page import Report, write_report

__all__ = ["Report", "write_report"]
