"""The steps beyond sending and waiting: what they compile to, and what is refused, with place and mend."""

import pytest
from jsonschema_rs import Draft202012Validator
from sqlalchemy import insert

import journeys
from channels import providers, templates
from contacts import suppressions
from core.database import Database
from core.errors import InvalidInput
from core.schema import contacts
from core.settings import Settings
from journeys import store
from journeys.plan import (
    OWN_ENROLLMENT,
    Act,
    End,
    EventFilter,
    Join,
    Notify,
    Parallel,
    Plan,
    Rules,
    Send,
    Split,
    Wait,
    Window,
)
from journeys.steps.call import CallData
from journeys.steps.known import Abilities

_SCHEMA = Draft202012Validator(journeys.json_schema())


def plan_of(steps: str, head: str = "", hasten: float = 1.0) -> Plan:
    journey = journeys.load(f"journey: x\n{head}steps:\n{steps}")
    _SCHEMA.validate(journey.document.data)
    return journeys.compile(journey, hasten)


def problems(steps: str, head: str = "") -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        journeys.load(f"journey: x\n{head}steps:\n{steps}", "x.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_words_that_write_on_the_contact_act() -> None:
    plan = plan_of(
        "  - tag: vip\n  - tag: {add: [a, b], remove: c}\n  - consent: {email: false, sms: {news: true}}\n"
        "  - score: {points: 5, risk: -0.5}\n"
    )
    one, two, consent, score, _ = plan.steps
    assert isinstance(one, Act) and (one.id, one.kind, one.data) == ("tag-1", "tag", {"add": ["vip"]})
    assert isinstance(two, Act) and two.data == {"add": ["a", "b"], "remove": ["c"]}
    assert isinstance(consent, Act)
    assert consent.data == {"consents": [["email", "marketing", False], ["sms", "news", True]]}
    assert isinstance(score, Act) and score.data == {"amounts": {"points": 5, "risk": -0.5}}


def test_a_letter_to_several_of_the_staff_is_a_step_for_each() -> None:
    plan = plan_of(
        "  - {id: tell, notify: email, to: [a@x.example, b@x.example], subject: s, text: t}\n  - end: done\n"
    )
    first, second, end = plan.steps
    assert isinstance(first, Notify) and isinstance(second, Notify) and isinstance(end, End)
    assert [(one.id, one.to, one.next) for one in (first, second)] == [
        ("tell", "a@x.example", 1), ("notify-1", "b@x.example", 2)
    ]  # fmt: skip


def test_branches_have_a_join_and_may_hold_branches() -> None:
    plan = plan_of("  - parallel: {a: [{tag: x}], b: [{parallel: {c: [{tag: y}], d: [{tag: z}]}, join: first}]}\n")
    kinds = [step.kind for step in plan.steps]
    assert kinds == ["parallel", "tag", "parallel", "tag", "tag", "join", "join", "end"]
    outer, inner = plan.steps[0], plan.steps[2]
    assert isinstance(outer, Parallel) and [(one.name, one.next) for one in outer.branches] == [("a", 1), ("b", 2)]
    assert isinstance(inner, Parallel) and [one.next for one in inner.branches] == [3, 4]
    first, last = plan.steps[5], plan.steps[6]
    assert isinstance(first, Join) and (first.mode, first.next) == ("first", 6)
    assert isinstance(last, Join) and (last.mode, last.next) == ("all", 7)


def test_every_channel_with_addresses_can_be_suppressed_for_every_reason() -> None:
    channels, reasons = suppressions.ADDRESS_KINDS, suppressions.REASONS
    plan = plan_of("".join(f"  - {{suppress: [{', '.join(channels)}], reason: {reason}}}\n" for reason in reasons))
    assert [step.data for step in plan.steps if isinstance(step, Act)] == [
        {"channels": list(channels)} | ({} if reason == "manual" else {"reason": reason}) for reason in reasons
    ]


def test_holdout_is_a_share_of_all_and_ends() -> None:
    plan = plan_of(
        "  - {id: arms, split: {a: 3, b: 1}, holdout: 20, winner: {metric: goal, sample: 50, deadline: 2d}}\n  - end\n"
    )
    split = plan.steps[0]
    assert isinstance(split, Split) and split.winner is not None
    assert [(arm.name, arm.weight) for arm in split.arms] == [("a", 3), ("b", 1), ("holdout", 1)]
    held = plan.steps[split.arms[2].next]
    assert isinstance(held, End) and held.outcome == "holdout"
    assert (split.winner.deadline_seconds, split.winner.confidence) == (172_800, 0.95)


def test_waits_for_dates_hours_and_criteria() -> None:
    plan = plan_of(
        "  - wait: {date: contact.ends, minus: 3d, at: 9:30, in: Europe/Moscow}\n    missing: [{end: none}]\n"
        "  - wait: {hours: 22:00-6:00, days: Monday and Friday, holidays: DE-BY}\n"
        "  - wait: 2d\n    until: [{when: {contact.city: Moscow}, then: [{tag: m}]}, {event: x}]\n"
        "    then: [{tag: n}]\n"
    )
    date, _, window, criteria = plan.steps[:4]
    assert isinstance(date, Wait) and date.date is not None and date.asks
    assert (date.date.offset_seconds, date.date.time, date.date.zone) == (-259_200, "09:30", "Europe/Moscow")
    assert plan.steps[date.date.missing].id == "end-1"
    assert isinstance(window, Wait)
    assert window.window == Window(start="22:00", end="06:00", weekdays=(0, 4), holidays="DE-BY")
    assert isinstance(criteria, Wait) and criteria.watch_subscription is not None
    assert plan.subscriptions[criteria.watch_subscription].role == "watch"
    assert plan.criteria[criteria.watches[0].criteria] == {"contact.city": "Moscow"}
    assert [plan.steps[criteria.watches[0].next].id, plan.steps[criteria.until[0].next].id] == ["tag-2", "tag-1"]


def test_a_call_and_its_branches() -> None:
    plan = plan_of(
        "  - call: https://a.example/{{ contact.id }}\n    headers: {X-A: b}\n    timeout: 5s\n    retry: 2h\n"
        "    answers: {when: {status: 404}, then: [{end: gone}]}\n    failed: [{end: failed}]\n",
        hasten=2,
    )
    call = plan.steps[0]
    assert isinstance(call, Act) and call.next is not None and call.long
    data = CallData.model_validate(call.data)
    assert (data.method, data.timeout_seconds, data.retry_seconds, data.headers) == ("POST", 5, 3600, (("X-A", "b"),))
    assert data.answers == ({"status": 404},)
    ways = {way.name: plan.steps[way.next].id for way in call.ways}
    assert ways == {"answer:1": "end-1", "failed": "end-2"}
    assert plan.steps[call.next].id == "end-3"


def test_another_journey_is_awaited_by_its_end() -> None:
    plan = plan_of("  - {enroll: other, key: k, await: 3d, outcomes: {good: [{tag: g}]}, late: [{end: late}]}\n")
    enroll = plan.steps[0]
    assert isinstance(enroll, Act) and enroll.data == {"journey": "other", "key": "k", "awaited": True}
    assert enroll.next is not None
    wait = plan.steps[enroll.next]
    assert isinstance(wait, Wait) and wait.seconds == 259_200
    own = {"journey": "other", "parent": {"same": OWN_ENROLLMENT}}
    assert [one.filter for one in plan.subscriptions] == [
        EventFilter(event="journey.finished", where={**own, "outcome": "good"}),
        EventFilter(event="journey.finished", where=own),
    ]
    assert plan.correlated() == ()
    free = plan_of("  - enroll: other\n  - end: on\n")
    assert [step.kind for step in free.steps] == ["enroll", "end"]


def test_questions_listen_to_answers() -> None:
    plan = plan_of(
        "  - {ask: link, of: q, within: 1d, answers: {https://A.example: [{tag: y}]}, else: [{end: silent}]}\n"
        '  - {ask: keypad, within: 1h, answers: {"1": [{tag: one}]}}\n'
        "  - {ask: form, of: visit, within: 1h, answers: {yes: [{tag: f}]}}\n"
        '  - {ask: reply, within: 1h, answers: {"Yes!": [{tag: r}]}}\n'
    )
    assert [one.filter for one in plan.subscriptions] == [
        EventFilter(
            event="message.clicked",
            where={"journey": "x", "step": "q", "machine": {"exists": False}, "url": "https://a.example/"},
        ),
        EventFilter(event="voice.pressed", where={"journey": "x", "key": "1"}),
        EventFilter(event="form.submitted", where={"form": "visit", "answer": "yes"}),
        EventFilter(event="message.replied", where={"journey": "x", "answer": "yes"}),
    ]


def test_site_content_and_erasure() -> None:
    plan = plan_of("  - {show: banner, template: t}\n  - hide: banner\n  - {delete: contact, outcome: gone}\n")
    show, hide, delete = plan.steps
    assert isinstance(show, Act) and isinstance(hide, Act) and isinstance(delete, Act)
    assert (show.data, hide.data) == ({"slot": "banner", "template": "t"}, {"slot": "banner"})
    assert (delete.next, delete.outcome) == (None, "gone")


def test_rules_of_a_journey() -> None:
    head = (
        "priority: broadcast\nquiet_hours: 22:00-8:00\nsend_window: {hours: 9:00-18:00, in: UTC}\n"
        "limits: {messages: 3, within: 7d, per_minute: 60}\n"
        "conversion: {event: paid, where: {event.cart: {same: cart}}, within: 14d, value: event.total}\n"
    )
    steps = "  - {send: email, template: t}\n  - {send: email, template: t, priority: alert, if_overdue: skip}\n"
    plan = plan_of(steps, head)
    assert plan.rules == Rules(
        quiet=("22:00", "08:00"), window=Window(start="09:00", end="18:00", zone="UTC"), cap=3, cap_seconds=604_800,
        per_minute=60,
    )  # fmt: skip
    assert plan.conversion is not None and plan.conversion.value == "total"
    assert (plan.conversion.within_seconds, plan.correlated()) == (1_209_600, ("cart",))
    sends = [step for step in plan.steps if isinstance(step, Send)]
    assert [(one.priority, one.if_overdue) for one in sends] == [("broadcast", "send"), ("alert", "skip")]
    demo = plan_of(steps, head, hasten=60)
    assert (demo.rules.quiet, demo.rules.window) == (None, None)


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ("  - tag: {}\n", "3:5: no tag is named (write tag: vip, or tag: {remove: vip})"),
        ("  - score: {points: lots}\n", "3:13: a number is expected here (write it in digits)"),
        ("  - delete: everything\n", "3:5: everything is not known here (known: contact)"),
        ("  - {notify: email, to: a@x.example, text: t}\n", "3:5: subject is missing (add subject: …)"),
        (
            "  - {notify: sms, to: '123', text: t}\n",
            "3:5: 123 cannot be written to by sms (write it with its country, like +79161234567)",
        ),
        (
            "  - {notify: webhook, to: 'ftp://x', text: t}\n",
            "3:5: ftp://x cannot be written to by webhook (write an address like https://example.com/hook)",
        ),
        (
            "  - {notify: email, to: a@x.example, subject: '{{ contat.x }}', text: t}\n",
            "3:38: there is no value 'contat' (did you mean contact?)",
        ),
        (
            "  - {notify: email, to: a@x.example, subject: s, text: '{{ contact.x '}\n",
            "3:50: Jinja: unexpected end of template, expected 'end of print statement'. "
            "(write {{ contact.first_name }}; see the Jinja template documentation)",
        ),
        (
            "  - call: https://{{ contact.host }}/x\n",
            "3:5: an address is expected here (write https://…, with {{ … }} behind the host only)",
        ),
        (
            "  - {call: https://x.example, answers: {when: {statsu: 1}, then: [end]}}\n",
            "3:48: statsu is no part of an answer (write status, or answer.score)",
        ),
        (
            "  - {call: https://x.example, method: GET, body: {a: 1}}\n",
            "3:5: a GET carries no body (write method: POST, or take the body out)",
        ),
        (
            "  - {call: https://x.example, save: {a: score}}\n",
            "3:38: a path into the answer is expected here (write answer.score)",
        ),
        (
            '  - {call: https://x.example, headers: {X-A: "a\\r\\nX-B: c"}}\n',
            "3:41: this cannot be a header (use letters, digits and dashes, and no line breaks)",
        ),
        ("  - {call: https://x.example, timeout: 2m}\n",
         "3:5: an answer may take 60 seconds at most (write timeout: 30s)"),
        (
            "  - {enroll: other, outcomes: {good: [end]}}\n",
            "3:5: outcomes are known once the other journey has ended (add await: true)",
        ),
        (
            "  - {ask: keypad, within: 1h, answers: {yes: [end]}}\n",
            '3:5: yes is not a key of a telephone (write a digit in quotes, like "1")',
        ),
        ("  - {split: {a: 1, holdout: 1}, holdout: 5}\n",
         "3:5: an arm is called holdout, and there is a holdout (rename the arm, or take the key out)"),
        (
            "  - {wait: {date: birthday}}\n",
            "3:13: date names an attribute of the contact (write date: contact.birthday)",
        ),
        (
            "  - {split: {a: 1, b: 1}, winner: {metric: clicked}}\n",
            "3:5: a split with a winner needs an id, by which its winner is remembered (add id: subject-line)",
        ),
        ("  - wait: {}\n", "3:5: this window is always open (add hours: 10:00-20:00, days: weekdays, or holidays: RU)"),
        (
            "  - wait: {holidays: XX}\n",
            "3:12: the holidays of XX are not known (write a country like RU, or a part like DE-BY)",
        ),
        ("  - wait: {hours: 9-18}\n", "3:12: '9' is not a time of day (write it like 10:00)"),
        (
            "  - {wait: until 9:00, until: {when: {contact.tags: x}}}\n",
            "3:5: criteria end a wait of a length, not one for a time of day (write wait: 1d, or forever)",
        ),
        (
            "  - {wait: 1d, until: {event: x, when: {contact.tags: x}}}\n",
            "3:16: until names an event, or criteria under when (write until: {event: order.paid})",
        ),
        (
            "  - {id: p, parallel: {a: [{goto: out}], b: [{tag: x}]}}\n  - {id: out, tag: y}\n",
            "3:5: p leads across the border of a parallel branch, to out (let branches meet at their end; goto stays "
            "inside a branch)",
        ),
        (
            "  - {parallel: {a: [{id: t, tag: x}, {goto: in}], b: [{id: in, tag: y}]}}\n",
            "3:21: t leads across the border of a parallel branch, to in (let branches meet at their end; goto stays "
            "inside a branch)",
        ),
        (
            "  - {parallel: {a: [{tag: x}], b: [{id: in, tag: y}]}}\n  - {id: go, wait: 1d}\n  - goto: in\n",
            "4:5: go leads across the border of a parallel branch, to in (let branches meet at their end; goto stays "
            "inside a branch)",
        ),
        (
            "  - {id: a, wait: {hours: 9:00-18:00}}\n  - goto: a\n",
            "3:5: a loop without a wait: a → a (put a wait between them)",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_place_and_mend(steps: str, said: str) -> None:
    assert problems(steps) == [f"x.yaml:{said}"]


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ("quiet hours: 22:00-08:00\n", "2:1: unknown key quiet hours (did you mean quiet_hours?)"),
        ("quiet_hours: 22-08\n", "2:1: '22' is not a time of day (write it like 10:00)"),
        ("limits: {within: 1d}\n", "2:1: nothing is limited (add messages: 3 with within: 7d, or per_minute: 600)"),
        (
            "conversion: {event: paid, value: total}\n",
            "2:27: value names a property of the event (write value: event.total)",
        ),
        (
            "send_window: {}\n",
            "2:1: this window is always open (add hours: 10:00-20:00, days: weekdays, or holidays: RU)",
        ),
        ("priority: high\n", "2:1: high is not known here (known: alert, broadcast, triggered)"),
    ],
)
def test_what_is_wrong_with_rules_is_said(head: str, said: str) -> None:
    assert problems("  - end\n", head) == [f"x.yaml:{said}"]


async def test_publishing_refuses_what_is_not_built_or_does_not_exist(database: Database) -> None:
    async with database.begin() as connection:
        await connection.execute(
            insert(contacts.attribute), [{"name": "points", "type": "number"}, {"name": "born", "type": "date"}]
        )
    bad = """\
journey: x
steps:
  - score: {pints: 1, born: 2}
  - wait: {date: contact.points}
  - {call: https://x.example, save: {scor: answer.s}}
  - {enroll: nowhere}
  - {enroll: x}
  - {notify: sms, to: "+79161234567", text: t}
  - {notify: webhook, to: https://x.example, text: t}
  - {ask: form, of: f, within: 1d, answers: {a: [{tag: x}]}}
  - {ask: reply, within: 1d, answers: {a: [{tag: x}]}}
  - {ask: keypad, within: 1d, answers: {"1": [{tag: x}]}}
  - {show: banner, template: t}
  - {hide: banner}
  - {wait: 1d, until: {when: {contact.shoe: 5}}}
goal: {when: {contact.shoe: 6}}
exit:
  - {event: a}
  - {when: {not: {contact.segments: nobody}}}
"""
    with pytest.raises(InvalidInput) as caught:
        async with database.begin() as connection:
            await store.publish(connection, bad, "x.yaml")
    said = [str(problem) for problem in caught.value.problems]
    known = "(import contacts that have it, or create the attribute)"
    assert said == [
        "x.yaml:3:13: contacts have no attribute pints (did you mean points?)",
        "x.yaml:3:23: the attribute born is a date (name a number)",
        "x.yaml:4:12: the attribute points is a number (name a date or a datetime)",
        f"x.yaml:5:38: contacts have no attribute scor {known}",
        "x.yaml:6:6: there is no journey nowhere (publish it first)",
        "x.yaml:8:6: the channel sms is not configured yet (notify by email meanwhile)",
        "x.yaml:9:6: no provider carries webhook yet (add one: kaskad provider add NAME URL, with a URL for webhook)",
        "x.yaml:10:6: forms on the site cannot ask yet (ask by a link meanwhile)",
        "x.yaml:11:6: no mail comes in here, so nobody's reply would be read "
        "(set KASKAD_INBOUND_ADDRESS (docs/email.md), or ask by a link meanwhile)",
        "x.yaml:12:6: the channel voice is not configured yet (ask by a link meanwhile)",
        "x.yaml:13:6: the channel site is not configured yet (send an email meanwhile)",
        "x.yaml:14:6: the channel site is not configured yet (send an email meanwhile)",
        f"x.yaml:15:31: contacts have no attribute shoe {known}",
        f"x.yaml:16:15: contacts have no attribute shoe {known}",
        "x.yaml:19:19: there is no segment nobody (publish it first)",
    ]


ASKING = """journey: x
steps:
  - {id: q, send: email, template: question}
  - {ask: reply, of: q, within: 1d, answers: {yes: [{tag: a}]}}
"""
QUESTION = "---\ntemplate: question\nsubject: Well?\n---\n<p>Yes?</p>"


async def _ask(database: Database, settings: Settings, question: str = QUESTION) -> store.Published:
    async with database.begin() as connection:
        await providers.add(connection, settings, "main", "blackhole://")
        await templates.publish(connection, question, "question.html")
        return await store.publish(connection, ASKING, "x.yaml", abilities=Abilities.of(settings))


async def test_replies_are_waited_for_where_mail_comes_in(
    database: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the settings that the process was given, whatever its environment says by now."""
    monkeypatch.setenv("KASKAD_INBOUND_ADDRESS", "in.example.com")
    with pytest.raises(InvalidInput, match="no mail comes in here"):
        await _ask(database, settings)
    monkeypatch.delenv("KASKAD_INBOUND_ADDRESS")
    reading = settings.model_copy(update={"inbound_address": "in.example.com"})
    assert (await _ask(database, reading)).changed


async def test_replies_that_go_elsewhere_are_not_waited_for(database: Database, settings: Settings) -> None:
    elsewhere = QUESTION.replace("subject:", "reply_to: sales@example.com\nsubject:")
    with pytest.raises(InvalidInput, match=r"x\.yaml:4:.*answers to the template question go to its reply_to"):
        await _ask(database, settings.model_copy(update={"inbound_address": "in.example.com"}), elsewhere)


@pytest.mark.parametrize("answers", ['{"Yes!": [{tag: a}], "yes": [{tag: b}]}', '{"!": [{tag: a}]}'])
def test_answers_that_no_reply_tells_apart(answers: str) -> None:
    with pytest.raises(InvalidInput, match="two answers are one"):
        plan_of(f"  - {{ask: reply, within: 1h, answers: {answers}}}\n")
