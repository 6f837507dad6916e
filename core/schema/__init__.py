"""The database schema, a file per domain. Anyone may read a table; only the package it belongs to writes it."""

from core.schema import (
    access,
    companies,
    contacts,
    delivery,
    effects,
    events,
    journeys,
    messages,
    reports,
    segments,
    sessions,
    sites,
)
from core.schema.base import metadata

__all__ = [
    "access",
    "companies",
    "contacts",
    "delivery",
    "effects",
    "events",
    "journeys",
    "messages",
    "metadata",
    "reports",
    "segments",
    "sessions",
    "sites",
]
