"""Our own files after somebody changed them in a modeler: the drawing counts, our details follow."""

import pytest

import journeys
from core.errors import InvalidInput
from journeys import bpmn

_JOURNEY = """\
journey: changed
name: Before
enter: {event: order.paid, key: event.order_id}
goal: {event: order.returned, where: {event.order_id: {same: order_id}}}
exit: {when: {contact.tags: lost}}
steps:
  - {id: first, send: email, template: a, purpose: news}
  - wait: 4h
    id: pause
    until: {event: mail.read, where: {event.step: first}}
    then: done
  - {if: {contact.tags: vip}, then: [{tag: seen}], else: [{tag: unseen}]}
  - choose:
      - {when: {contact.age: {gt: 5}}, then: [{enroll: other}]}
    else: done
  - end: ran-out
  - id: done
    end: finished
"""


def _drawn() -> str:
    return bpmn.export(journeys.load(_JOURNEY))


def _read(drawing: str) -> str:
    found = bpmn.read(drawing.encode(), "x.bpmn").text
    journeys.load(found)
    return found


@pytest.mark.parametrize(
    ("before", "after", "was", "now"),
    [
        (">PT4H<", ">P1DT30M<", "wait: 4h", "wait: 1d 30m"),
        (">PT4H<", ">PT240M<", "wait: 4h", "wait: 4h"),
        ('name="mail.read"', 'name="mail.opened"', "event: mail.read", "event: mail.opened"),
        ('name="order.returned"', 'name="order.lost"', "event: order.returned", "event: order.lost"),
        ('{"contact.tags": "lost"}</bpmn:cond', "contact.tags: away</bpmn:cond", "tags: lost", "tags: away"),
        ('name="order.paid"', 'name="order.made"', "event: order.paid", "event: order.made"),
        ('{"contact.age": {"gt": 5}}</bpmn:cond', "contact.age: {lt: 9}</bpmn:cond", "{gt: 5}", "{lt: 9}"),
        ('{"contact.tags": "vip"}</bpmn:cond', "contact.tags: top</bpmn:cond", "tags: vip", "tags: top"),
        ('name="ran-out"', 'name="gave up"', "end: ran-out", "end: gave up"),
        ('name="email: a"', 'name="SMS: b"', "send: email\n    template: a", "send: sms\n    template: b"),
        ('calledElement="Journey_other"', 'calledElement="Journey_next"', "enroll: other", "enroll: next"),
        ('name="Before" isEx', 'name="After" isEx', "name: Before", "name: After"),
    ],
)
def test_what_was_changed_in_the_standard_part_counts(before: str, after: str, was: str, now: str) -> None:
    drawing = _drawn()
    assert before in drawing
    assert _read(drawing.replace(before, after)) == _read(drawing).replace(was, now)
    assert was in _read(drawing)


def test_details_of_an_exit_that_were_lost_are_read_from_the_drawing() -> None:
    drawing = _drawn()
    assert '{"when": {"contact.tags": "lost"}}' in drawing
    assert _read(drawing.replace('{"when": {"contact.tags": "lost"}}', "{}")) == _read(drawing)


def test_changed_criteria_of_a_wait_count() -> None:
    drawing = bpmn.export(journeys.load("journey: x\nsteps: [{wait: 1h, until: {when: {contact.tags: back}}}]"))
    assert '{"contact.tags": "back"}</bpmn:condition>' in drawing
    changed = _read(drawing.replace('"back"}</bpmn:condition>', '"here"}</bpmn:condition>'))
    assert changed == _read(drawing).replace("contact.tags: back", "contact.tags: here")


def test_a_name_for_the_bottom_is_an_outcome() -> None:
    drawing = bpmn.export(journeys.load("journey: x\nsteps: [{if: {contact.tags: a}, then: [{tag: b}]}, {wait: 1h}]"))
    named = drawing.replace('id="End_of_journey" name="completed"', 'id="End_of_journey" name="seen"')
    assert _read(named) == _read(drawing) + "  - end: seen\n"


def _flow(drawing: str, source: str, way: str) -> str:
    """The start of the flow that leaves an element by a way."""
    return next(line for line in drawing.splitlines() if f'sourceRef="{source}"' in line and way in line)


def test_a_flow_that_leads_elsewhere_counts() -> None:
    drawing = _drawn()
    line = _flow(drawing, "Step_choose-1", "/else")
    assert "else: done" in _read(drawing)
    moved = _read(drawing.replace(line, line.replace("Step_done", "Step_pause")))
    assert "else: pause" in moved
    assert "else: done" not in moved


def test_a_step_that_nothing_leads_to_any_more_is_told() -> None:
    drawing = _drawn()
    line = _flow(drawing, "Step_if-1", "/else")
    with pytest.raises(
        InvalidInput, match=r"x.bpmn:\d+:5: serviceTask Step_\S+ “tag: unseen”: nothing leads to this step"
    ):
        _read(drawing.replace(line, line.replace(line.partition('targetRef="')[2].partition('"')[0], "Step_done")))


def test_a_step_that_was_taken_out_is_gone() -> None:
    drawing = _drawn()
    first, _, rest = drawing.partition('    <bpmn:sendTask id="Step_first"')
    without = first + rest.partition("</bpmn:sendTask>\n")[2]
    without = without.replace('targetRef="Step_first"', 'targetRef="Step_pause"')
    line = _flow(without, "Step_first", "Step_pause")
    found = _read(without.replace(line + "\n", ""))
    assert "send: email" not in found
    assert found.replace(
        "steps:\n", "steps:\n  - id: first\n    send: email\n    template: a\n    purpose: news\n"
    ) == _read(drawing)


def test_a_step_that_was_drawn_in_is_taken() -> None:
    drawing = _drawn()
    line = _flow(drawing, "Step_first", "Step_pause")
    new = '    <bpmn:serviceTask id="Activity_0new11" name="score: {points: 5}" />\n'
    new += line.replace("Step_pause", "Activity_0new11") + "\n"
    new += '    <bpmn:sequenceFlow id="Flow_0new" sourceRef="Activity_0new11" targetRef="Step_pause" />'
    assert "  - score: {points: 5}\n  - wait: 4h\n" in _read(drawing.replace(line, new))


@pytest.mark.parametrize(
    ("before", "after", "problem"),
    [
        ('{"id": "first"', '["id"', "sendTask Step_first “email: a”: what stands in kaskad:step is not a JSON object"),
        ('"send": "email"', '"sned": "email"', "what stands in kaskad:step is not one step"),
        (">PT4H<", ">P1Y<", "timeDuration P1Y is not a length of time"),
        ('"purpose": "news"', '"purpose": 5', "sendTask Step_first “email: a”: a text is expected here"),
        ('"template": "a"', '"template": NaN', "what stands in kaskad:step is not a JSON object"),
        ('targetRef="Step_done"', 'targetRef="Event_pause_1"', "a flow leads into the middle of a step"),
        ('{"contact.tags": "vip"}</bpmn:cond', "${vip}</bpmn:cond", "its condition ${vip} is not criteria"),
        (
            '{"contact.tags": "lost"}</bpmn:cond',
            "${lost}</bpmn:cond",
            "Exit_1_start “contact.tags: lost”: its condition",
        ),
        ('"until": {"event": "mail.read", ', '"until": {', "details say different things"),
        ('kaskad:way="/choose/0/then"', 'kaskad:way="/choose/7/then"', "its details know no way choose 7 then"),
    ],
)
def test_details_that_were_damaged_are_refused_by_element(before: str, after: str, problem: str) -> None:
    drawing = _drawn()
    assert before in drawing
    with pytest.raises(InvalidInput) as caught:
        _read(drawing.replace(before, after))
    assert any(problem in str(one) for one in caught.value.problems), caught.value
    assert all(one.line > 5 and one.file == "x.bpmn" for one in caught.value.problems)
