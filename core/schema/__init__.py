"""The database schema, a file per domain. Anyone may read a table; only the package it belongs to writes it."""

from core.schema import access, contacts, effects, events, journeys, messages, segments
from core.schema.base import metadata

__all__ = ["access", "contacts", "effects", "events", "journeys", "messages", "metadata", "segments"]
