"""The registry of step kinds and the files agree, and one file with one line is all that a new kind takes."""

import importlib
import pkgutil
from collections.abc import AsyncIterator, Iterator
from types import ModuleType
from typing import Any

import pytest
import pytest_asyncio
from pydantic import Field
from sqlalchemy.ext.asyncio import AsyncConnection

import contacts
import journeys
from core.database import Database
from core.errors import InvalidInput
from core.settings import Settings
from engine import telling
from engine.acting import Acting
from journeys import bpmn, language, picture, reference, references, steps
from journeys.bpmn.drawing import SHAPES
from journeys.plan import Act, Plan
from journeys.scenario import Note, Person, Scenario
from journeys.simulation import simulate
from journeys.steps import registry
from journeys.steps.grammar import Branch, Node, Slug, StepNode
from journeys.steps.kind import Data, Doing, Effect, Kind, act
from journeys.steps.place import Draft, Place
from segments.supposing import Supposed
from studio import status
from tests.engine.steps_world import World
from tests.journeys.test_simulation import START, Simple

_NO_KINDS = {"grammar", "kind", "known", "place", "reading", "registry"}
"""Files of the folder that kinds are made of."""


def _kinds(module: ModuleType) -> list[Kind]:
    return [one for one in vars(module).values() if isinstance(one, Kind)]


def test_every_file_is_registered_and_every_kind_has_a_file() -> None:
    names = {module.name for module in pkgutil.iter_modules(steps.__path__)} - _NO_KINDS
    of_files = {name: _kinds(importlib.import_module(f"journeys.steps.{name}")) for name in sorted(names)}
    assert [name for name, kinds in of_files.items() if not kinds] == []
    found = [kind.key for kinds in of_files.values() for kind in kinds]
    assert sorted(found) == sorted(kind.key for kind in registry.KINDS)
    assert len(registry.BY_KEY) == len(registry.KINDS)


@pytest.mark.parametrize("kind", registry.KINDS, ids=lambda kind: kind.key)
def test_a_kind_says_everything_about_itself(kind: Kind) -> None:
    assert kind.key in kind.model.model_fields or kind.key in {one.alias for one in kind.model.model_fields.values()}
    assert kind.drawn and kind.element in {*SHAPES, "sequenceFlow"}
    plan = journeys.compile(_example(kind))
    for step in plan.steps:
        assert all(to in range(len(plan.steps)) for _, to in picture.ways(plan, step))
        assert telling.doing(plan, step, None) and status.describe(step, plan) is not None
    if kind.effect is not None:
        assert any(step.kind == kind.key for step in plan.steps)


@pytest.mark.parametrize("kind", registry.KINDS, ids=lambda kind: kind.key)
def test_an_example_is_drawn_with_the_element_of_its_kind(kind: Kind) -> None:
    journey = _example(kind)
    drawing = bpmn.export(journey)
    assert f"<bpmn:{kind.element} " in drawing
    assert f'{{"{kind.key}": ' in drawing or f', "{kind.key}": ' in drawing or kind.compile is None
    assert journeys.compile(journeys.load(bpmn.read(drawing.encode()).text)) == journeys.compile(journey)


async def test_every_effect_is_performed_somewhere(database: Database, settings: Settings) -> None:
    acting = Acting(database, settings)
    try:
        for kind in registry.KINDS:
            if kind.effect is not None:
                nowhere = "*" in kind.unbuilt
                assert (kind.effect.perform is not None) + (kind.key in acting.own) + nowhere == 1, kind.key
        assert acting.own.keys() <= registry.BY_KEY.keys()
    finally:
        await acting.close()


def _example(kind: Kind) -> language.Journey:
    lines = kind.example.splitlines(keepends=True)
    return journeys.load(reference.HEAD + "".join(f"  {line}" for line in lines), f"example of {kind.key}")


@pytest_asyncio.fixture(loop_scope="session")
async def world(database: Database, settings: Settings) -> AsyncIterator[World]:
    """An installation in which steps can be done."""
    acting = Acting(database, settings)
    yield World(database, settings, acting)
    await acting.close()


# --- a kind that only this test knows: it stamps contacts, and sends those who have the stamp another way


class StampStep(StepNode):
    """Stamp the contact."""

    stamp: Slug = Field(description="The tag")
    again: Branch | None = Field(None, description="Where to go who has it")


class StampData(Data):
    """What is written in the plan."""

    tag: str


def _compile(step: StampStep, place: Place) -> Draft:
    name = place.name("stamp", step.id)
    return act("stamp", name, StampData(tag=step.stamp), place, ways={"again": place.branch(step.again, "again")})


async def _perform(connection: AsyncConnection, doing: Doing, data: StampData) -> dict[int, str]:
    had = await contacts.get(connection, doing.contacts[0])
    await contacts.apply(connection, doing.contacts, {}, [data.tag], [])
    return dict.fromkeys(doing.contact_of, "again") if data.tag in had.tags else {}


def _suppose(supposed: Supposed, data: StampData, _value: Any) -> None:
    supposed.tags[data.tag] = True


STAMP = Kind(
    key="stamp",
    model=StampStep,
    compile=_compile,
    effect=Effect(StampData, lambda data: data.tag, lambda data: f"was stamped {data.tag}", _perform, suppose=_suppose),
    element="serviceTask",
    drawn="named by what it does",
    example="- stamp: seen\n",
)
JOURNEY = """\
journey: stamped
steps:
  - id: it
    stamp: seen
    again:
      - if: {contact.tags: vip}
        then: [{stamp: twice}]
      - end: again
  - if: {contact.tags: seen}
    then: [{end: stamped}]
"""


@pytest.fixture
def stamp(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The kind is registered, and the models are built with it."""
    with monkeypatch.context() as patch:
        patch.setitem(registry.BY_KEY, "stamp", STAMP)
        _rebuild()
        yield
    _rebuild()


def _rebuild() -> None:
    """Let the models forget what they were built of: each keeps the schemas of those inside it."""
    waiting: list[type[Node]] = [Node]
    while waiting:
        model = waiting.pop()
        waiting += model.__subclasses__()
        if "__pydantic_core_schema__" in vars(model):
            del model.__pydantic_core_schema__
    language.Journey.model_rebuild(force=True)


def _plan() -> Plan:
    return journeys.compile(journeys.load(JOURNEY))


@pytest.mark.usefixtures("stamp")
def test_a_new_kind_loads_compiles_and_is_told() -> None:
    plan = _plan()
    step = plan.steps[0]
    assert isinstance(step, Act) and (step.kind, step.data) == ("stamp", {"tag": "seen"})
    assert Plan.model_validate_json(plan.model_dump_json()) == plan
    assert [step.kind for step in plan.steps].count("stamp") == 2
    assert len(list(references.steps_of(journeys.load(JOURNEY)))) == 6
    assert telling.doing(plan, step, None) == "was stamped seen"
    assert status.describe(step, plan) == "seen; again: if-1; next: if-2"
    assert "stamp" in journeys.json_schema()["$defs"]["StampStep"]["properties"]
    assert "### stamp" in reference.markdown()
    with pytest.raises(InvalidInput) as caught:
        journeys.load("journey: x\nsteps:\n  - {stmap: a}\n  - {stamp: a, agian: [end]}\n", "x.yaml")
    assert [str(one) for one in caught.value.problems] == [
        "x.yaml:3:5: there is no step stmap (did you mean stamp?)",
        "x.yaml:4:16: unknown key agian (did you mean again?)",
    ]


@pytest.mark.usefixtures("stamp")
def test_a_new_kind_goes_through_bpmn() -> None:
    drawing = bpmn.export(journeys.load(JOURNEY))
    assert '<bpmn:serviceTask id="Step_it" name="stamp: seen">' in drawing
    assert journeys.compile(journeys.load(bpmn.read(drawing.encode()).text)) == _plan()


@pytest.mark.usefixtures("stamp")
def test_a_new_kind_is_simulated() -> None:
    class Tagged(Simple):
        def holds(self, _criterion: int, _person: Person, _at: float, supposed: Supposed) -> bool:
            return supposed.tags == {"seen": True}

    told: list[Note] = []
    result = simulate(Scenario(_plan(), START, 1, {}), [Person(1, 1)], Tagged(), tell=told.append)
    assert [one.outcome for one in result.outcomes] == ["stamped"]


@pytest.mark.usefixtures("stamp")
async def test_a_new_kind_is_performed(world: World) -> None:
    version = await world.publish(JOURNEY)
    contact = await world.contact()
    (one,) = await world.enroll(version, contact)
    step = version.plan.steps[0]
    assert isinstance(step, Act)
    assert (await world.act(version, "it", [(one, 1)])).went == [[one, 1, step.next, "next"]]
    assert (await world.act(version, "it", [(one, 5)])).went == [[one, 5, step.leads("again"), "again"]]
    assert (await world.run("select tags from contact"))[0].tags == ["seen"]
