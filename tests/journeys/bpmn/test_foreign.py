"""BPMN of other tools: what has a meaning is taken, what has none is refused, all of it at once."""

import pytest

import journeys
from core.errors import InvalidInput
from journeys import bpmn
from tests.journeys.bpmn.samples import CAMUNDA, REFUSED


def test_a_process_of_another_modeler_becomes_a_journey() -> None:
    found = bpmn.read(CAMUNDA.encode(), "drawings/cart.bpmn")
    assert (
        found.text
        == """\
journey: remind-of-the-cart
name: Remind of the cart
enter:
  event: cart.left
goal: {event: order.paid, outcome: bought}
steps:
  - wait: 4h
    id: wait
    until:
      - event: order.paid
        then:
          - end: bought
  - if: {contact.consents: sms}
    then:
      - send: sms
        template: cart-reminder
    else:
      - send: email
        template: cart-reminder
        purpose: news
  - tag: reminded
  - split:
      once-more:
        weight: 90
        then:
          - wait: 1d 12h
          - goto: wait
      leave: {weight: 10, then: [end]}
"""
    )
    assert found.left_out == ("1 text annotations", "1 associations")
    assert journeys.compile(journeys.load(found.text)).journey == "remind-of-the-cart"


def test_what_has_no_meaning_is_refused_all_at_once() -> None:
    with pytest.raises(InvalidInput) as caught:
        bpmn.read(REFUSED.encode(), "x.bpmn")
    assert [str(problem).partition(" (")[0] for problem in caught.value.problems] == [
        "x.bpmn:3:5: startEvent Start: a start by conditional has no meaning here",
        "x.bpmn:5:5: sendTask Mail “Write to them”: does not say what it does",
        "x.bpmn:8:5: sequenceFlow f3 “yes”: its condition ${amount > 100} is not criteria",
        "x.bpmn:12:5: inclusiveGateway Or “Any of these”: has no meaning in a journey",
        "x.bpmn:14:5: intermediateCatchEvent Pause: timeCycle R3/PT10H is not a length of time",
        "x.bpmn:18:5: scriptTask Script “Compute”: does not say what it does",
        "x.bpmn:20:5: sequenceFlow f8: there is no element Nowhere",
        "x.bpmn:21:5: endEvent Broken “failed”: an end by error has no meaning here",
        "x.bpmn:22:5: boundaryEvent Edge: has no meaning in a journey",
        "x.bpmn:23:5: choreographyTask Dance: has no meaning in a journey",
    ]
    assert all(problem.mend for problem in caught.value.problems)


def _process(inside: str) -> bytes:
    begin = '<definitions xmlns="http://www.omg.org/spec/BPMN/20100524/MODEL" targetNamespace="x">'
    message = '<message id="m" name="order.paid"/>'
    return f'{begin}\n{message}\n<process id="p">{inside}</process></definitions>'.encode()


_CATCH = 'intermediateCatchEvent id="c"'


def _flows(*pairs: tuple[str, str]) -> str:
    return "".join(
        f'<sequenceFlow id="f{number}" sourceRef="{a}" targetRef="{b}"/>' for number, (a, b) in enumerate(pairs)
    )


def _steps(inside: str, *pairs: tuple[str, str]) -> str:
    text = bpmn.read(_process(f'<startEvent id="s"/>{inside}{_flows(*pairs)}'), "x.bpmn").text
    return text.partition("steps:\n")[2]


def test_parallel_branches_meet() -> None:
    steps = _steps(
        '<parallelGateway id="fork"/><sendTask id="a" name="email: a"/><task id="b" name="tag: b"/>'
        '<parallelGateway id="join"/><endEvent id="e" name="both"/>',
        ("s", "fork"), ("fork", "a"), ("fork", "b"), ("a", "join"), ("b", "join"), ("join", "e"),
    )  # fmt: skip
    assert (
        steps
        == """\
  - parallel:
      branch-1:
        - send: email
          template: a
      branch-2:
        - tag: b
  - end: both
"""
    )


def test_a_task_that_receives_waits_as_long_as_the_timer_on_its_border() -> None:
    steps = _steps(
        '<receiveTask id="w" messageRef="m"/><boundaryEvent id="t" attachedToRef="w"><timerEventDefinition>'
        "<timeDuration>P2W</timeDuration></timerEventDefinition></boundaryEvent>"
        '<endEvent id="paid" name="paid"/><endEvent id="late" name="late"/>',
        ("s", "w"), ("w", "paid"), ("t", "late"),
    )  # fmt: skip
    assert (
        steps
        == """\
  - wait: 2w
    until:
      event: order.paid
      then:
        - end: paid
  - end: late
"""
    )


def test_a_call_activity_enrolls_and_a_missing_end_is_an_end() -> None:
    assert _steps('<callActivity id="c" calledElement="Welcome_Series"/>', ("s", "c")) == "  - enroll: welcome-series\n"


def test_a_condition_starts_on_entering_a_segment() -> None:
    start = "<conditionalEventDefinition><condition>contact.segments: vips</condition></conditionalEventDefinition>"
    body = f'<startEvent id="s">{start}</startEvent><task id="t" name="tag: x"/>{_flows(("s", "t"))}'
    assert bpmn.read(_process(body)).text.startswith("journey: p\nenter:\n  segment: vips\n  on: entered\n")


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("contact.tags: gone", "exit: {when: {contact.tags: gone}, outcome: left}\n"),
        ("${gone}", "is not criteria"),
    ],
)
def test_a_condition_may_end_the_journey(condition: str, said: str) -> None:
    begin = f"<conditionalEventDefinition><condition>{condition}</condition></conditionalEventDefinition>"
    inner = f'<startEvent id="b">{begin}</startEvent><endEvent id="e" name="left"/>{_flows(("b", "e"))}'
    body = f'<startEvent id="s"/><task id="t" name="tag: x"/>{_flows(("s", "t"))}'
    drawing = _process(f'{body}<subProcess id="x" triggeredByEvent="true">{inner}</subProcess>')
    if condition.startswith("$"):
        with pytest.raises(InvalidInput, match=said):
            bpmn.read(drawing)
    else:
        assert said in bpmn.read(drawing).text


def test_a_timer_starts_a_schedule_for_a_segment() -> None:
    timer = "<timerEventDefinition><timeCycle>0 30 9 ? * MON-FRI</timeCycle></timerEventDefinition>"
    body = f'<startEvent id="s" name="%s">{timer}</startEvent><task id="t" name="email: digest"/>{_flows(("s", "t"))}'
    text = bpmn.read(_process(body % "segment: readers"), "weekly digest.bpmn").text
    assert "enter:\n  schedule: 30 9 * * MON-FRI\n  segment: readers\n" in text
    with pytest.raises(InvalidInput, match="startEvent s “Weekly”: a timer does not say who enters"):
        bpmn.read(_process(body % "Weekly"))


@pytest.mark.parametrize(
    ("inside", "flows", "problem"),
    [
        ("", [], "startEvent s: 0 flows leave it"),
        ('<startEvent id="u"/>', [], "startEvent u: a journey is entered in one way"),
        ('<intermediateThrowEvent id="t"/>', ["st"], "there is no step in this process"),
        ('<task id="t" name="email: x"/>', ["st", "st"], "2 flows leave it, not one"),
        ('<task id="t" name="emial: x"/>', ["st"], "does not say what it does (did you mean email?"),
        ('<task id="t" name="email: x"/><task id="u" name="tag: y"/>', ["st"], "task u “tag: y”: nothing leads here"),
        ('<task id="t" name="email: x"><multiInstanceLoopCharacteristics/></task>', ["st"], "a task that repeats"),
        ('<parallelGateway id="g"/><endEvent id="a"/><endEvent id="b"/>', ["sg", "ga", "gb"], "do not meet"),
        ('<task id="t" name="tag: x"/>', ["st", "ts"], "startEvent s: a flow leads here, but this is no step"),
        (
            '<exclusiveGateway id="g"/><parallelGateway id="p"/><task id="t" name="tag: x"/>',
            ["sg", "gp", "gp", "pt"],
            "parallelGateway p: no parallel gateway parts the flows",
        ),
        ('<exclusiveGateway id="g"/><exclusiveGateway id="h"/>', ["sg", "gh", "hg"], "leads back to itself"),
        ('<task id="t" name="email: x"/><endEvent id="t"/>', ["st"], "its id is missing, or another element has it"),
        (f"<{_CATCH}><signalEventDefinition/></intermediateCatchEvent>", ["sc"], "a wait for signal"),
        (f'<endEvent id="e" name="{"x" * 101}"/>', ["se"], "String should have at most 100"),
        ('<callActivity id="c" calledElement="Ж"/>', ["sc"], "does not say what it does"),
        ('<task id="t" name="call: ftp://x"/>', ["st"], "task t “call: ftp://x”"),
    ],
)
def test_a_mistake_is_told_with_its_element(inside: str, flows: list[str], problem: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        _steps(inside, *((flow[0], flow[1]) for flow in flows))
    assert any(problem in str(one) for one in caught.value.problems), caught.value
    assert all(one.file == "x.bpmn" and one.line == 3 and one.column > 0 for one in caught.value.problems)


def test_a_start_without_an_id_is_told_like_any_other_mistake() -> None:
    body = f'<startEvent/><task id="t" name="tag: x"/>{_flows(("s", "t"))}'
    with pytest.raises(InvalidInput, match="startEvent: its id is missing"):
        bpmn.read(_process(body), "x.bpmn")
