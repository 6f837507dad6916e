"""Which events begin enrollments and which are news to running ones. Pure; `engine.router` performs it.

A round of events is worked through in the order of the log, so that a goal reached before a new entry is seen before
it, also when both are in one round. Doing a round again after a crash gives the same result.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from core import eventlog
from engine import reentry
from engine.versions import Version
from journeys.plan import ANY_EVENT, OWN_ENROLLMENT, Entry, EventFilter
from segments import eventfilter

ENTER = eventlog.ENTER
_KEY_LIMIT = 200


@dataclass(frozen=True)
class LoggedEvent:
    """An event as the router reads it."""

    id: int
    at: datetime
    received_at: datetime
    contact_id: int
    name: str
    properties: dict[str, Any]


@dataclass
class Enrolled:
    """An enrollment as the router sees it; `closed_by` is set while routing when a goal or an exit is reached."""

    id: int
    contact_id: int
    cohort_id: int
    version_id: int
    journey_id: int
    key: str
    entered_at: datetime
    entry_event_id: int | None
    closed_by: int | None
    finished: bool
    entering: bool
    correlation: dict[str, Any]

    def is_open_at(self, event_id: int) -> bool:
        """Whether it was running when this event of the log came."""
        begun = self.entry_event_id is None or self.entry_event_id < event_id
        return begun and not self.finished and (self.closed_by is None or self.closed_by >= event_id)


@dataclass(frozen=True)
class NewEnrollment:
    """An entry that the router decided on."""

    id: int
    contact_id: int
    version: Version
    key: str
    event: LoggedEvent
    correlation: dict[str, Any] | None
    exclusive: bool


@dataclass
class Routed:
    """What a round of events comes to."""

    entries: list[NewEnrollment] = field(default_factory=list)
    unsure: set[int] = field(default_factory=set)
    """Enrollments of before this round whose cohort may not have heard of them yet. It has to, before it can hear
    of their events: whoever wrote them may have died before telling it."""
    heard: list[tuple[int, int, int, int]] = field(default_factory=list)
    """(event id, enrollment id, subscription, version id), in the order of the log."""
    refused: list[LoggedEvent] = field(default_factory=list)
    """Requests of other journeys to let a contact in that came to nothing."""
    closed: dict[int, int] = field(default_factory=dict)
    """Enrollment id to the event that closed it."""
    unrouted: list["Unrouted"] = field(default_factory=list)


@dataclass(frozen=True)
class Unrouted:
    """An event that could not be taken in: by one version, whose criteria fail on it, or by any."""

    event: LoggedEvent
    version_id: int | None
    error: Exception


def subscriptions_by_event(version: Version) -> dict[str, list[int]]:
    """Event name to the numbers of the subscriptions that listen to it."""
    found: dict[str, list[int]] = defaultdict(list)
    for number, subscription in enumerate(version.plan.subscriptions):
        found[subscription.filter.event].append(number)
    return found


def tried(wanted: EventFilter, event: LoggedEvent, known: Mapping[str, Any]) -> bool | Exception:
    """Whether an event meets a filter, or what the filter failed of."""
    try:
        return eventfilter.matches(wanted.where, event.properties, known)
    except Exception as error:  # noqa: BLE001 - given to the caller, who keeps it
        return error


class Round:
    """One round of routing, over events of the log in order."""

    def __init__(
        self,
        versions: Mapping[int, Version],
        entrances: Mapping[str, Sequence[Version]],
        enrolled: Sequence[Enrolled],
        allowed: Callable[[int, int], bool],
        new_id: Callable[[], int],
    ) -> None:
        """
        Args:
            versions: Every version that an enrollment of this round may run on.
            entrances: Event name to the current versions of the active journeys that it begins.
            enrolled: The enrollments of the round's contacts, finished ones included where re-entry asks for them.
            allowed: (version id, contact id) -> whether the contact meets the entry's criteria.
            new_id: Gives the id for a new enrollment.
        """
        self._versions = versions
        self._entrances = entrances
        self._allowed = allowed
        self._new_id = new_id
        self._of_contact: dict[int, list[Enrolled]] = defaultdict(list)
        for enrollment in enrolled:
            self._of_contact[enrollment.contact_id].append(enrollment)
        self._listening: dict[int, dict[str, list[int]]] = {}
        self.routed = Routed()

    def end(self) -> Routed:
        """What the events came to. That something happened to a contact for whom criteria are watched is told once a
        round, with the last of the events: a cohort that has heard of that one knows all."""
        told: set[tuple[int, int]] = set()
        heard: list[tuple[int, int, int, int]] = []
        for row in reversed(self.routed.heard):
            _, enrollment, number, version = row
            if self._versions[version].plan.subscriptions[number].role == "watch":
                if (enrollment, number) in told:
                    continue
                told.add((enrollment, number))
            heard.append(row)
        self.routed.heard = heard[::-1]
        return self.routed

    def take(self, event: LoggedEvent) -> None:
        """Work in the next event of the log."""
        self._hear(event)
        if event.name == ENTER:
            self._enter_by_request(event)
            return
        for version in self._entrances.get(event.name, ()):
            self._enter_by_event(version, event)

    def _hear(self, event: LoggedEvent) -> None:
        for enrollment in self._of_contact.get(event.contact_id, ()):
            version = self._versions.get(enrollment.version_id)
            if version is None or not enrollment.is_open_at(event.id):
                continue
            listening = self._subscriptions(version)
            known = enrollment.correlation | {OWN_ENROLLMENT: enrollment.id}
            for number in (*listening.get(event.name, ()), *listening.get(ANY_EVENT, ())):
                subscription = version.plan.subscriptions[number]
                if not self._matches(version, subscription.filter, event, known):
                    continue
                self.routed.heard.append((event.id, enrollment.id, number, version.id))
                if enrollment.entering and enrollment.cohort_id:
                    self.routed.unsure.add(enrollment.id)
                if subscription.role in {"goal", "exit"}:
                    enrollment.closed_by = event.id
                    self.routed.closed[enrollment.id] = event.id
                    break

    def _matches(self, version: Version, wanted: EventFilter, event: LoggedEvent, known: Mapping[str, Any]) -> bool:
        """Whether an event is what a version waits for. Criteria that fail on it are not met: other journeys, and other
        events, have to go on."""
        found = tried(wanted, event, known)
        if isinstance(found, Exception):
            self.routed.unrouted.append(Unrouted(event, version.id, found))
            return False
        return found

    def _subscriptions(self, version: Version) -> dict[str, list[int]]:
        if version.id not in self._listening:
            self._listening[version.id] = subscriptions_by_event(version)
        return self._listening[version.id]

    def _enter_by_request(self, event: LoggedEvent) -> None:
        wanted = [
            version for version in self._entrances.get(ENTER, ()) if version.journey == event.properties.get("journey")
        ]
        if not wanted and "parent" in event.properties:
            self.routed.refused.append(event)
        for version in wanted:
            self._enter(version, event)

    def _enter_by_event(self, version: Version, event: LoggedEvent) -> None:
        entry = version.plan.entry
        if entry.event is None or entry.event.event != event.name:
            return
        if not self._matches(version, entry.event, event, {}):
            return
        if entry.criteria is not None and not self._allowed(version.id, event.contact_id):
            return
        self._enter(version, event)

    def _enter(self, version: Version, event: LoggedEvent) -> None:
        key = key_of(version, event)
        mine = [
            enrollment
            for enrollment in self._of_contact[event.contact_id]
            if enrollment.journey_id == version.journey_id
        ]
        for enrollment in mine:
            if enrollment.entry_event_id == event.id:
                if enrollment.entering:
                    self.routed.unsure.add(enrollment.id)
                return
        same_key = [enrollment for enrollment in mine if enrollment.key == key]
        if not _may_enter(version.plan.entry, same_key, event):
            if event.name == ENTER and "parent" in event.properties:
                self.routed.refused.append(event)
            return
        names = version.plan.correlated()
        correlation = {name: event.properties[name] for name in names if name in event.properties} or None
        new = NewEnrollment(
            self._new_id(),
            event.contact_id,
            version,
            key,
            event,
            correlation,
            exclusive=version.plan.entry.reenter != "always",
        )
        self.routed.entries.append(new)
        self._of_contact[event.contact_id].append(
            Enrolled(
                id=new.id,
                contact_id=new.contact_id,
                cohort_id=0,
                version_id=version.id,
                journey_id=version.journey_id,
                key=key,
                entered_at=event.received_at,
                entry_event_id=event.id,
                closed_by=None,
                finished=False,
                entering=True,
                correlation=correlation or {},
            )
        )


def key_of(version: Version, event: LoggedEvent) -> str:
    """The key of an enrollment that an event begins, as text; long ones are replaced by their digest, so that the index
    stays small."""
    entry = version.plan.entry
    value = event.properties.get(entry.key) if entry.key else None
    if event.name == ENTER:
        value = event.properties.get("key") or value
    key = "" if value is None else str(value)
    return key if len(key) <= _KEY_LIMIT else hashlib.sha256(key.encode()).hexdigest()


def _may_enter(entry: Entry, earlier: Sequence[Enrolled], event: LoggedEvent) -> bool:
    """Whether the entry rules let a contact in again, given its enrollments with the same key."""
    earlier = [one for one in earlier if one.entry_event_id is None or one.entry_event_id < event.id]
    latest = max((one.entered_at for one in earlier), default=None)
    running = any(one.is_open_at(event.id) for one in earlier)
    return reentry.allows(entry, latest, event.received_at, running=running)
