"""Getting events in: what sites, servers and CRMs report about contacts, checked and written to the event log."""

from tracker.ingest import Busy, Duplicate, Intake, Stored
from tracker.wire import Incoming, Limits, Parsed, Refused, parse

__all__ = ["Busy", "Duplicate", "Incoming", "Intake", "Limits", "Parsed", "Refused", "Stored", "parse"]
