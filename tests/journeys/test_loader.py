"""Reading journeys: the reference loads as printed, and each mistake is named with its place and mend."""

import pytest

import journeys
from core.errors import InvalidInput
from journeys.plan import Choose, End, EventFilter, Send, Wait

REFERENCE = """\
journey: unfinished-application
name: Remind about an unfinished application
enter:
  event: application.saved
  where: {event.status: draft}
  key: event.application_id
  reenter: after_exit
goal:
  event: application.submitted
  where: {event.application_id: {same: application_id}}
steps:
  - send: email
    id: letter
    template: draft-saved
  - wait: 4h
    until: {event: application.status_changed, where: {event.application_id: {same: application_id}}}
    then: done            # the event came
  - if: {contact.consents: sms}
    then:
      - send: sms
        template: draft-reminder-sms
    else:
      - send: email
        template: draft-reminder
  - wait: until 10:00 on weekdays, in the contact's time zone
  - end
  - id: done
    end: returned
"""


def test_the_reference_journey_compiles_as_printed() -> None:
    plan = journeys.compile(journeys.load(REFERENCE, "reference.yaml"))
    assert (plan.journey, plan.title) == ("unfinished-application", "Remind about an unfinished application")
    assert plan.entry.event == EventFilter(event="application.saved", where={"status": "draft"})
    assert (plan.entry.key, plan.entry.reenter, plan.entry.criteria) == ("application_id", "after_exit", None)
    assert [step.id for step in plan.steps] == [
        "letter",
        "wait-1",
        "if-1",
        "send-1",
        "send-2",
        "wait-2",
        "end-1",
        "done",
    ]
    letter, wait, choose, sms, email, morning, end, done = plan.steps
    assert isinstance(letter, Send) and (letter.template, letter.next, letter.priority) == (
        "draft-saved",
        1,
        "triggered",
    )
    assert isinstance(wait, Wait) and (wait.seconds, wait.next) == (14_400, 2)
    assert [(way.subscription, way.next) for way in wait.until] == [(0, 7)]
    assert isinstance(choose, Choose) and (choose.branches, choose.otherwise) == (((0, 3),), 4)
    assert isinstance(sms, Send) and (sms.channel, sms.next) == ("sms", 5)
    assert isinstance(email, Send) and (email.channel, email.next) == ("email", 5)
    assert isinstance(morning, Wait) and morning.local is not None and morning.seconds is None
    assert (morning.local.time, morning.local.weekdays, morning.local.zone) == ("10:00", (0, 1, 2, 3, 4), "contact")
    assert isinstance(end, End) and end.outcome == "completed"
    assert isinstance(done, End) and done.outcome == "returned"
    assert plan.criteria == ({"contact.consents": "sms"},)
    assert [(one.role, one.outcome) for one in plan.subscriptions] == [("wait", ""), ("goal", "goal")]
    assert plan.correlated() == ("application_id",)


def test_the_plan_knows_what_criteria_compare_with() -> None:
    own = "{event: {name: paid, where: {event.cart: {same: cart}}}}"
    source = (
        "journey: x\nsteps:\n"
        f"  - {{if: {{any: [{{contact.tags: x}}, {{not: {own}}}]}}, then: [end]}}\n"
        "  - wait: 1d\n"
        "    until: {when: {sequence: {steps: [a, {name: b, where: {event.c: {same: basket}}}]}}}\n"
    )
    assert journeys.compile(journeys.load(source)).correlated() == ("basket", "cart")


def test_hasten_shortens_waits_and_cooldown() -> None:
    text = REFERENCE.replace("  reenter: after_exit", "  reenter: after_exit\n  cooldown: 1d")
    plan = journeys.compile(journeys.load(text), hasten=1440)
    waits = [step.seconds for step in plan.steps if isinstance(step, Wait)]
    assert waits == [10, 30]
    assert plan.entry.cooldown_seconds == 60
    with pytest.raises(InvalidInput, match="hasten is a positive number"):
        journeys.compile(journeys.load(text), hasten=0)


def _problems(steps: str, head: str = "journey: x\n") -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        journeys.load(f"{head}steps:\n{steps}", "x.yaml")
    assert all(problem.line > 0 and problem.column > 0 for problem in caught.value.problems)
    return [str(problem) for problem in caught.value.problems]


_END = "  - end\n"


def test_every_problem_is_told_at_once() -> None:
    steps = """\
  - send: email
    tempalte: welcome
  - sendd: email
  - wait: 4 fortnights
    until: {event: x, whre: {event.a: 1}}
  - if: {contact.age: {gte: old}, cntact.tags: vip}
    then: nowhere
  - wait: 1d
    precise: yes
"""
    assert _problems(steps, "journey: x\nentr: {event: x}\nenter: {event: x, reenter: sometimes}\n") == [
        "x.yaml:2:1: unknown key entr (did you mean enter?)",
        "x.yaml:3:19: sometimes is not known here (known: after_exit, always, never)",
        "x.yaml:5:5: template is missing (add template: …)",
        "x.yaml:6:5: unknown key tempalte (did you mean template?)",
        "x.yaml:7:5: there is no step sendd (did you mean send?)",
        "x.yaml:8:5: '4 fortnights' is not a length of time (write wait: 4h, or wait: until 10:00 on weekdays, in the "
        "contact's time zone)",
        "x.yaml:9:23: unknown key whre (did you mean where?)",
        "x.yaml:10:24: gte takes a number or a date, not 'old' (write a number, 2026-05-09, or now-30d)",
        "x.yaml:10:35: unknown criterion cntact.tags (did you mean contact.tags?)",
        "x.yaml:11:5: there is no step nowhere (give a step the id nowhere)",
        "x.yaml:13:5: true or false is expected here (yes, no, on and off are words, not booleans)",
    ]


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ("  - goto: a\n", "there is no step a"),
        ("  - wait: 1d\n    id: letter\n  - goto: leter\n", "there is no step leter (did you mean letter?)"),
        ("  - {id: a, wait: 1d}\n  - {id: a, wait: 1d}\n", "the id a stands twice; first on line 3"),
        ("  - {id: a, goto: a}\n", "a journey cannot begin with goto"),
        ("  - wait: 1d\n  - {id: a, goto: b}\n  - {id: b, goto: a}\n", "these gotos only lead to each other"),
        ("  - end\n  - wait: 1d\n", "x.yaml:4:5: nothing leads to this step"),
        ("  - {id: a, wait: 1d}\n  - end\n  - goto: a\n", "x.yaml:5:5: nothing leads to this step"),
        (
            "  - {id: a, send: email, template: t}\n  - {id: b, send: email, template: t}\n  - goto: a\n",
            "a loop without a wait: a → b → a (put a wait between them)",
        ),
        ("  - {id: a, if: {contact.tags: x}, then: a, else: [end]}\n", "a loop without a wait: a → a"),
        ("  - wait: 1d\n    then: done\n  - {id: done, end: x}\n", "there is no until"),
        ("  - wait: forever\n", "nothing ever ends this wait"),
        ("  - wait: 11w 3650d\n", "longer than ten years"),
        ("  - wait: 0h\n", "a wait of no time"),
        ("  - wait: 3M\n", "minutes are m"),
        ("  - wait: until 25:00\n", "does not name a time of day"),
        ("  - wait: until 10:00 in Europe/Moskow\n", "no time zone Europe/Moskow (did you mean Europe/Moscow?)"),
        ("  - wait: until 10:00 on Mondai\n", "mondai is not a day of the week (did you mean monday?)"),
        ("  - wait: until 10:00 on holidays\n", "holidays differ from place to place"),
        ("  - {send: email, wait: 1d, template: x}\n", "this step has two kinds: send and wait"),
        ("  - {send: pigeon, template: x}\n", "pigeon is not known here"),
        ("  - {template: x}\n", "this step does not say what it does"),
        ("  - edn\n", "a step is expected here (did you mean end?)"),
        ("  - {wait: 4}\n", "a length of time has a unit (write wait: 4d, or 4h)"),
        ("  - {send: email, template: 4}\n", "a text is expected here (put it in quotes)"),
        ("  - {send: email, template: [a]}\n", "a text is expected here (write it behind the colon, on one line)"),
        ("  - {split: {a: 1}}\n", "at least 2 are expected here, not 1"),
        ("  - {split: {a: 0, b: 1}}\n", "0 is expected to be more than 0"),
        ("  - {id: a, split: {a: 1, b: 1}, winner: {metric: goal, sample: 5}}\n", "5 is expected to be at least 10"),
        ("  - {id: a, split: {a: 1, b: 1}, winner: {metric: goal, sample: 50.5}}\n", "a whole number is expected here"),
        ("\t- end\n", "x.yaml:3:1: a tab cannot stand here (indent with spaces)"),
        ("  - end\n---\njourney: y\n", "a second document begins here (put each into a file of its own)"),
        ("  - {split: {a: {wight: 1}, b: 1}}\n", "unknown key wight (did you mean weight?)"),
        ("  - {update: {}}\n", "nothing to update"),
        ("  - {update: {tags: {ad: x}}}\n", "unknown key ad (did you mean add?)"),
        ("  - {id: Letter One, end: x}\n", "'Letter One' cannot be a name"),
        ("  - {if: {contact.tags: x}, then: 5}\n", "where to go is expected here"),
        (
            "  - if: {event: {name: order.paid, where: {event.cart: {same: 5}}}}\n    then: [end]\n",
            "x.yaml:3:44: same takes the name of a property (write {same: application_id})",
        ),
        (
            "  - wait: forever\n    until: {when: {rfm: {event: a, total: 5, where: {event.b: {same: b}}}}}\n",
            "x.yaml:4:54: same compares with the event that began a journey; there is none here",
        ),
    ],
)
def test_each_mistake_is_named(steps: str, message: str) -> None:
    assert message in "\n".join(_problems(steps))


def test_a_wrong_channel_is_told_once() -> None:
    assert _problems("  - {suppress: fax}\n") == [
        "x.yaml:3:6: fax is not known here (known: email, sms, voice, webpush)"
    ]


@pytest.mark.parametrize(
    ("enter", "message"),
    [
        ("{event: x, segment: y}", "by an event, a segment or a date"),
        ("{schedule: 0 9 * * mon}", "needs to know who enters"),
        ("{schedule: 0 9 * *, segment: all}", "five fields, not 4"),
        ("{schedule: 0 24 * * *, segment: all}", "'24' is not a hour"),
        ("{schedule: '@daily', segment: all, in: Mars}", "there is no time zone Mars"),
        ("{schedule: '@daily', segment: all, in: the contact's time zone}", "one moment for everybody"),
        ("{segment: all, key: event.a}", "key names a property of the entry event"),
        ("{event: x, key: a}", "write key: event.application_id"),
        ("{where: {event.a: 1}}", "no event is named"),
        ("{event: x, where: {event.a: {same: b}}}", "there is none here"),
        ("{event: x, where: {any: [{event.a: 1}]}}", "only be tested where there is an event"),
        ("{event: x, cooldown: soon}", "'soon' is not a length of time"),
        ("{event: x, where: {}}", "criteria are expected here"),
    ],
)
def test_each_mistake_in_enter_is_named(enter: str, message: str) -> None:
    assert message in "\n".join(_problems(_END, f"journey: x\nenter: {enter}\n"))


def test_where_may_mix_the_event_and_the_contact() -> None:
    text = "journey: x\nenter: {event: e, where: {event.a: 1, contact.tags: vip}}\nsteps: [end]\n"
    entry = journeys.compile(journeys.load(text)).entry
    assert entry.event == EventFilter(event="e", where={"a": 1})
    assert entry.criteria == {"contact.tags": "vip"}


def test_a_schedule_lets_contacts_come_again() -> None:
    text = "journey: x\nenter: {schedule: 0 9 * * MON-FRI, in: Europe/Moscow, segment: all}\n"
    text += "steps: [{send: email, template: t}]\n"
    plan = journeys.compile(journeys.load(text))
    assert (plan.entry.cron, plan.entry.zone, plan.entry.segment) == ("0 9 * * mon-fri", "Europe/Moscow", "all")
    assert plan.entry.reenter == "after_exit"
    send, end = plan.steps
    assert isinstance(send, Send) and send.priority == "broadcast"
    assert isinstance(end, End) and end.outcome == "completed"


def test_a_loop_with_a_wait_in_it_is_welcome() -> None:
    text = "journey: x\nsteps:\n  - {id: a, send: email, template: t}\n  - wait: 1d\n  - goto: a\n"
    send, wait = journeys.compile(journeys.load(text)).steps
    assert isinstance(send, Send) and isinstance(wait, Wait)
    assert (send.next, wait.next) == (1, 0)
