"""Segments: criteria on contacts, and named sets of contacts."""

from segments.criteria import Criteria
from segments.membership import Run, count, matching, matching_runs, page
from segments.resolving import resolve

__all__ = ["Criteria", "Run", "count", "matching", "matching_runs", "page", "resolve"]
