"""Who does what in the chaos test, and what has to come of it: the script, made from a seed."""

import random
from dataclasses import dataclass
from typing import Any

WORDS = ("silent", "stranger", "again", "returns", "submits")
JOURNEYS = ("chaos", "chaos-alert")

_LETTER = """---
template: {name}
channel: email
subject: "{{{{ contact.first_name }}}}, your application {{{{ event.application_id }}}}"
---
<mjml><mj-body><mj-section><mj-column>
<mj-text>Hello {{{{ contact.first_name }}}}, <a href="https://example.com/go">go on</a>.</mj-text>
<mj-text><a href="{{{{ unsubscribe_url }}}}">No more letters</a></mj-text>
</mj-column></mj-section></mj-body></mjml>
"""
TEMPLATES = {name: _LETTER.format(name=name) for name in ("chaos-first", "chaos-second", "chaos-alert")}


def journeys(wait_seconds: int) -> dict[str, str]:
    """The reference journey with a wait of this length, and one whose letter must arrive at least once."""
    same = "{event.application_id: {same: application_id}}"
    reference = f"""
journey: chaos
name: The reference journey
enter:
  event: application.saved
  where: {{event.status: draft}}
  key: event.application_id
  reenter: after_exit
goal: {{event: application.submitted, outcome: submitted, where: {same}}}
steps:
  - send: email
    id: letter
    template: chaos-first
  - wait: {wait_seconds}s
    id: wait
    until: {{event: application.status_changed, where: {same}}}
    then: done
  - if: {{contact.city: Moscow}}
    id: check
    then:
      - send: email
        id: reminder
        template: chaos-second
  - end: silent
    id: over
  - id: done
    end: returned
"""
    alert = """
journey: chaos-alert
name: At least once
enter: {event: alarm.raised, key: event.application_id}
steps:
  - send: email
    id: alarm
    template: chaos-alert
    priority: alert
  - end: told
    id: over
"""
    return {"chaos": reference, "chaos-alert": alert}


@dataclass(frozen=True)
class Person:
    """One contact's part."""

    number: int
    """Of the contact."""
    act: str
    """silent: does nothing more. stranger: what is done belongs to another application. again: saves the same
    application twice. returns: the status changes. submits: reaches the goal."""
    city: str
    consent: bool | None
    at: float
    """Seconds after the beginning at which the application is saved."""
    answers_after: float
    """Seconds from the acknowledgement of that to the next event."""
    alarmed: bool
    """Whether it also raises an alarm."""

    @property
    def application(self) -> str:
        """The application that it saves."""
        return f"a{self.number}"

    @property
    def outcome(self) -> str:
        """How its reference journey has to end."""
        return {"returns": "returned", "submits": "submitted"}.get(self.act, "silent")

    def opening(self) -> list[dict[str, Any]]:
        """The events of its first request, which are taken in together."""
        events = [self._event("saved", "application.saved", status="draft")]
        if self.act == "again":
            events.append(self._event("again", "application.saved", status="draft"))
        if self.alarmed:
            events.append(self._event("alarm", "alarm.raised"))
        return events

    def answer(self) -> list[dict[str, Any]]:
        """The events of its second request, if there is one."""
        match self.act:
            case "returns":
                return [self._event("answer", "application.status_changed")]
            case "submits":
                return [self._event("answer", "application.submitted")]
            case "stranger":
                event = self._event("answer", "application.status_changed")
                event["properties"]["application_id"] += "-of-somebody-else"
                return [event]
        return []

    def _event(self, what: str, name: str, **properties: str) -> dict[str, Any]:
        number = f"{what}-{self.number}"
        return {
            "id": number,
            "event": name,
            "contact": {"external_id": f"x{self.number}"},
            "properties": {"application_id": self.application, "sent_as": number, **properties},
        }


def cast(contacts: int, spread_seconds: float, dice: random.Random) -> list[Person]:
    """So many contacts, who begin within so many seconds."""
    return [
        Person(
            number=number,
            act=dice.choices(WORDS, (35, 10, 10, 30, 15))[0],
            city=dice.choices(("Moscow", "Kazan"), (70, 30))[0],
            consent=dice.choices((True, False, None), (92, 4, 4))[0],
            at=dice.uniform(0, spread_seconds),
            answers_after=dice.choice((0.0, dice.uniform(0, 3))),
            alarmed=dice.random() < 0.25,
        )
        for number in range(1, contacts + 1)
    ]
