"""Segments: criteria on contacts, and named sets of contacts."""

from segments.criteria import Criteria
from segments.membership import count, matching, page
from segments.resolving import resolve

__all__ = ["Criteria", "count", "matching", "page", "resolve"]
