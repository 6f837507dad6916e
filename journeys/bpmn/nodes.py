"""The steps of a process: from its elements and flows to the nodes of a chart."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from core.documents import Path
from journeys import branches
from journeys.bpmn import foreign
from journeys.bpmn.changes import CRITERIA_MEND, taken_over, way_of
from journeys.bpmn.chart import BOTTOM, NEXT, SHARED, Node, goes_on, shares
from journeys.bpmn.diagram import NAMESPACE, place_of
from journeys.bpmn.drawing import is_endless
from journeys.bpmn.markup import Tag
from journeys.bpmn.source import BPMN, Link, Source
from journeys.steps.grammar import DEFAULT_OUTCOME
from journeys.steps.registry import BY_KEY

_REPEATS = ("standardLoopCharacteristics", "multiInstanceLoopCharacteristics")


class Nodes:
    """The nodes of a process, in the order of the file."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.all: list[Node] = []
        self.tags: dict[str, Tag] = {}
        self.passed: dict[str, str] = {}
        """Elements that do nothing: gateways where flows only meet, for instance; with where they lead."""
        self.joins: dict[str, str] = {}
        """Gateways where parallel branches meet, with the key of the join they are."""
        self.used: set[str] = set()
        """Elements that belong to the step of another one."""
        self.own = {key: found for key in source.nodes if (found := self._own_detail(key)) is not None}
        self._read()
        for node in self.all:
            node.ways = {place: self.resolved(to) for place, to in node.ways.items()}
            self._check_targets(node)

    def _check_targets(self, node: Node) -> None:
        known = {BOTTOM, *self.tags, *self.joins.values()}
        for to in node.ways.values():
            if to not in known and to in self.source.nodes and not self.source.problems:
                self.source.refuse(self.source.nodes[to], "a flow leads here, but this is no step", "lead it to a step")

    def resolved(self, target: str) -> str:
        """The step that an element leads to, past those that do nothing."""
        seen = set()
        while target in self.passed or target in self.joins:
            if target in self.joins:
                return self.joins[target]
            if target in seen:
                self.source.refuse(self.source.nodes[target], "leads back to itself without a step", "take it out")
                return BOTTOM
            seen.add(target)
            target = self.passed[target]
        if target in self.used and target not in self.tags:
            self.source.refuse(
                self.source.nodes[target],
                "a flow leads into the middle of a step",
                "lead it to the beginning of the step",
            )
            self.used.discard(target)
        return target

    def _read(self) -> None:
        kinds: dict[str, Callable[[str, Tag], None]] = {
            "endEvent": self._end,
            "exclusiveGateway": self._decision,
            "eventBasedGateway": self._race,
            "parallelGateway": self._fork,
            "intermediateCatchEvent": self._catch,
            "intermediateThrowEvent": self._throw,
            "receiveTask": self._receive,
            **dict.fromkeys(foreign.TASKS, self._task),
        }
        for key in self.own:
            self.used |= {other for other, tag in self.source.nodes.items() if tag.own(NAMESPACE, "of") == key}
        for key in self.own:
            self._own(key)
        later = ("intermediateCatchEvent", "boundaryEvent")  # gateways and tasks take those that belong to them
        everything = list(self.source.nodes.items())
        for key, tag in sorted(everything, key=lambda one: one[1].name in later):
            if key in self.own or key in self.used or self._is_bottom(key, tag) or tag.name == "startEvent":
                continue
            if tag.name in kinds:
                kinds[tag.name](key, tag)
            elif not (tag.name == "subProcess" and tag.attributes.get("triggeredByEvent") == "true"):
                self._refuse_kind(tag)
        order = {key: number for number, key in enumerate(self.source.nodes)}
        self.all.sort(key=lambda node: order.get(node.key, len(order)))

        for key, tag in everything:
            if tag.name == "parallelGateway" and key not in {*self.tags, *self.passed, *self.joins, *self.used}:
                self.source.refuse(
                    tag, "no parallel gateway parts the flows that meet here", "use an exclusive gateway"
                )

    @staticmethod
    def _is_bottom(key: str, tag: Tag) -> bool:
        """Whether this is the end that we drew for those who fall off the steps, as we drew it."""
        return key == BOTTOM and tag.attributes.get("name", "") in {"", DEFAULT_OUTCOME}

    def _refuse_kind(self, tag: Tag) -> None:
        mends = {
            "boundaryEvent": "only a timer on a receive task, and those that Kaskad draws, mean something",
            "inclusiveGateway": "use an exclusive or a parallel gateway",
            "complexGateway": "use an exclusive or a parallel gateway",
            "subProcess": "draw its steps in the process itself, or use a call activity",
        }
        self.source.refuse(tag, "has no meaning in a journey", mends.get(tag.name, "take it out"))

    def _add(self, key: str, tag: Tag, data: dict[str, Any], ways: dict[Path, str]) -> None:
        for one in tag.each(BPMN):
            if one.name in _REPEATS:
                self.source.refuse(tag, "a task that repeats has no meaning here", "draw a loop with a wait in it")
        name = foreign.name_of(tag)
        self.all.append(Node(key, name, data, None, ways, tag.line, tag.column))
        self.tags[key] = tag

    def _only(self, key: str, tag: Tag) -> str:
        """Where the one flow leads that leaves an element; the end of the journey if there is none."""
        leaving = self.source.leaving(key)
        if len(leaving) > 1:
            self.source.refuse(tag, f"{len(leaving)} flows leave it", "use a gateway to say which is taken")
        for link in leaving[:1]:
            if link.condition:
                self.source.refuse(
                    link.tag, "a condition means something behind an exclusive gateway only", "put one in between"
                )
        return leaving[0].target if leaving else BOTTOM

    # --- steps that Kaskad drew

    def _own_detail(self, key: str) -> tuple[Tag, dict[str, Any]] | None:
        tag = self.source.nodes[key]
        found = self.source.detail(tag, "step")
        if found is None:
            return None
        kinds = [kind for kind in BY_KEY if kind in found[1]]
        if len(kinds) != 1 or kinds == ["goto"]:
            self.source.refuse(tag, "what stands in kaskad:step is not one step", "restore it, or take it out")
            return None
        return found

    def _own(self, key: str) -> None:
        tag, (detail, data) = self.source.nodes[key], self.own[key]
        place = detail.attributes.get("place")
        group = {key} | {other for other, one in self.source.nodes.items() if one.own(NAMESPACE, "of") == key}
        if self._redrawn(key, data):
            self._decision(key, tag)
            return
        name = key.removeprefix("Step_") if key.startswith("Step_") else foreign.name_of(tag)
        node = Node(key, name, data, None if place is None else place_of(place), {}, tag.line, tag.column)
        self.all.append(node)
        self.tags[key] = tag
        for other in group:
            if other == node.join:
                self.joins[other] = other
        self._adopt(node, group)
        for link in self._exits(node, group):
            way = link.way if link.way is not None else way_of(self.source, link.source)
            if way in node.ways:
                self.source.refuse(link.tag, "a second flow for the same way out", "take one of them out")
            node.ways[NEXT if way is None else way] = link.target
        self._complete(node, tag)
        taken_over(self.source, node, group, list(self._exits(node, group)))

    def _redrawn(self, key: str, data: dict[str, Any]) -> bool:
        """Whether somebody drew another flow from a gateway of ours: then its flows say what it means."""
        simple = (
            any(kind in data for kind in ("if", "choose", "split")) and "winner" not in data and "holdout" not in data
        )
        return simple and any(link.way is None for link in self.source.leaving(key))

    def _exits(self, node: Node, group: set[str]) -> Iterator[Link]:
        for member in sorted(group, key=list(self.source.nodes).index):
            for link in self.source.leaving(member):
                if link.target == node.key or link.target not in group or (member == node.key and link.way is not None):
                    yield link

    def _complete(self, node: Node, tag: Tag) -> None:
        """Every way that has to be there is; what the element says about the way that is not drawn."""
        endless = node.kind == "wait" and is_endless(node.data)
        group = [tag, *(one for one in self.source.nodes.values() if one.own(NAMESPACE, "of") == node.key)]
        hidden = _said(group, "next")
        if endless and (hidden in self.source.nodes or hidden == BOTTOM):
            node.ways.setdefault(NEXT, str(hidden))
        elif goes_on(node.kind) and not endless:
            node.ways.setdefault(NEXT, BOTTOM)
        shared = _said(group, "then")
        if shares(node.data) and (shared in self.source.nodes or shared == BOTTOM):
            node.ways.setdefault(SHARED, str(shared))
        for place in branches.places(node.data):
            if (
                branches.written(node.data, place)
                and place not in node.ways
                and not (node.kind == "wait" and place == SHARED)
            ):
                self.source.refuse(tag, f"its way {' '.join(map(str, place))} leads nowhere", "draw the flow again")
                node.ways[place] = BOTTOM
        known = {*branches.places(node.data), NEXT}
        for place in [place for place in node.ways if place not in known]:
            self.source.refuse(tag, f"its details know no way {' '.join(map(str, place))}", "draw the flow again")
            del node.ways[place]

    def _adopt(self, node: Node, group: set[str]) -> None:
        """Events that somebody drew behind the event-based gateway of a wait: other ways out of it."""
        if node.kind != "wait":
            return
        gateways = [key for key in group if self.source.nodes[key].name == "eventBasedGateway"]
        for link in [link for key in gateways for link in self.source.leaving(key) if link.target not in group]:
            tag = self.source.nodes[link.target]
            rule = self._rule_of(tag)
            if rule is None:
                continue
            if isinstance(node.data["until"], dict):
                self.source.refuse(
                    tag,
                    "a second event for this wait",
                    "write until as a list in kaskad:step, with ways /until/0/then …",
                )
                continue
            node.data["until"].append(rule)
            self.used.add(link.target)
            node.ways["until", len(node.data["until"]) - 1, "then"] = self._only(link.target, tag)

    # --- elements of other tools

    def _end(self, key: str, tag: Tag) -> None:
        for definition in self.source.definitions(tag):
            if definition.kind != "terminate":
                self.source.refuse(tag, f"an end by {definition.kind} has no meaning here", "use a plain end event")
        name = " ".join(tag.attributes.get("name", "").split())
        if key == BOTTOM:  # somebody named the end of the journey: now it is a step
            self.passed[key] = key = f"{key}_named"
        self._add(key, tag, {"end": None if name in {"", DEFAULT_OUTCOME} else name}, {})

    def _task(self, key: str, tag: Tag) -> None:
        step = foreign.step_of(tag)
        if step is None:
            self.source.refuse(tag, "does not say what it does", foreign.task_mend(tag))
            return
        for place in branches.places(step):
            if branches.written(step, place):
                self.source.refuse(
                    tag,
                    f"its way {' '.join(map(str, place))} is written, not drawn",
                    "leave it out, and use a gateway behind it",
                )
                return
        self._add(key, tag, step, {NEXT: self._only(key, tag)} if goes_on(branches.kind_of(step)) else {})

    def _throw(self, key: str, tag: Tag) -> None:
        if self.source.definitions(tag):
            self._task(key, tag)
        else:
            self.passed[key] = self._only(key, tag)

    def _receive(self, key: str, tag: Tag) -> None:
        """A wait for an event; a timer on its border is the longest that it lasts."""
        event = self.source.named(tag.attributes.get("messageRef", ""))
        if not event:
            self.source.refuse(tag, "does not say which message it waits for", "give it a message with a name")
            return
        ways: dict[Path, str] = {("until", "then"): self._only(key, tag)}
        length = "forever"
        for border, one in self.source.nodes.items():
            if one.attributes.get("attachedToRef") == key and one.name == "boundaryEvent":
                timers = [found for found in self.source.definitions(one) if found.kind == "timer"]
                if timers and one.attributes.get("cancelActivity") != "false" and NEXT not in ways:
                    self.used.add(border)
                    length = self.source.duration(one, timers[0]) or length
                    ways[NEXT] = self._only(border, one)
        self._add(key, tag, {"wait": length, "until": {"event": event}}, ways)

    def _catch(self, key: str, tag: Tag) -> None:
        definition = next(iter(self.source.definitions(tag)), None)
        if definition is not None and definition.kind == "timer":
            length = self.source.duration(tag, definition)
            self._add(key, tag, {"wait": length or "1d"}, {NEXT: self._only(key, tag)})
            return
        rule = self._rule_of(tag)
        if rule is not None:
            self._add(key, tag, {"wait": "forever", "until": rule}, {("until", "then"): self._only(key, tag)})

    def _rule_of(self, tag: Tag) -> dict[str, Any] | None:
        """What an event waits for that ends a wait."""
        found = next(iter(self.source.definitions(tag)), None)
        reference = self.source.named(tag.attributes.get("messageRef", ""))
        if found is None and tag.name == "receiveTask" and reference:
            return {"event": reference}
        if found is not None and found.kind == "message" and found.body:
            return {"event": found.body}
        if found is not None and found.kind == "conditional":
            data = foreign.criteria_of(found.body)
            if data is not None:
                return {"when": data}
            self.source.refuse(tag, f"its condition {found.body[:60]} is not criteria", CRITERIA_MEND)
            return None
        what = (
            f"{found.kind} without a name" if found and found.kind == "message" else found.kind if found else "nothing"
        )
        self.source.refuse(tag, f"a wait for {what} has no meaning here", "use a timer, or a message with a name")
        return None

    def _race(self, key: str, tag: Tag) -> None:
        """An event-based gateway with the events behind it: one wait."""
        length = "forever"
        rules: list[dict[str, Any]] = []
        ways: dict[Path, str] = {}
        for link in self.source.leaving(key):
            event = self.source.nodes[link.target]
            if event.name not in {"intermediateCatchEvent", "receiveTask"} or link.target in self.used:
                self.source.refuse(
                    event, "an event-based gateway leads to events of its own only", "put an event in between"
                )
                continue
            self.used.add(link.target)
            if len(self.source.coming(link.target)) > 1:
                self.source.refuse(event, "another flow leads to this event, too", "draw an event of its own for each")
            timer = next((one for one in self.source.definitions(event) if one.kind == "timer"), None)
            if timer is not None and NEXT in ways:
                self.source.refuse(event, "a second timer behind the same gateway", "take one of them out")
            elif timer is not None:
                length = self.source.duration(event, timer) or length
                ways[NEXT] = self._only(link.target, event)
            elif (rule := self._rule_of(event)) is not None:
                ways["until", len(rules), "then"] = self._only(link.target, event)
                rules.append(rule)
        if ways:
            self._add(key, tag, {"wait": length} | ({"until": rules} if rules else {}), ways)
        elif not self.source.leaving(key):
            self.source.refuse(tag, "no event follows", "draw the events behind it")

    def _decision(self, key: str, tag: Tag) -> None:
        """An exclusive gateway: where flows meet, a choice by criteria, or a split by shares."""
        leaving = self.source.leaving(key)
        if len(leaving) < 2 and not any(link.condition for link in leaving):
            self.passed[key] = leaving[0].target if leaving else BOTTOM
            return
        shares = [foreign.share_of(link.name) for link in leaving]
        if all(shares) and len({share[0] for share in shares if share}) == len(leaving):
            arms = {
                share[0] or f"arm-{number}": {"weight": share[1], "then": None}
                for number, share in enumerate(shares, 1)
                if share
            }
            ways: dict[Path, str] = {
                ("split", arm, "then"): link.target for arm, link in zip(arms, leaving, strict=True)
            }
            self._add(key, tag, {"split": arms}, ways)
        else:
            self._choice(key, tag, leaving)

    def _choice(self, key: str, tag: Tag, leaving: list[Link]) -> None:
        default = tag.attributes.get("default")
        bare = [
            link
            for link in leaving
            if link.id != default and not link.condition and foreign.criteria_of(link.name) is None
        ]
        otherwise = next((link for link in leaving if link.id == default), None)
        if otherwise is None and len(bare) == 1:
            otherwise = bare[0]
        cases = []
        for link in leaving:
            data = foreign.criteria_of(link.condition or link.name)
            if link is not otherwise and data is None:
                said = f"its condition {link.condition[:60]}" if link.condition else "what it says"
                self.source.refuse(link.tag, f"{said} is not criteria", CRITERIA_MEND)
            elif link is not otherwise:
                cases.append((data, link.target))
        if otherwise is None and not bare:
            self.source.refuse(tag, "no flow is the default one", "mark the one that is taken when no condition holds")
        if otherwise is None or not cases:
            return
        if len(cases) == 1:
            ways: dict[Path, str] = {("then",): cases[0][1]}
            data = {"if": cases[0][0], "then": None}
        else:
            ways = {("choose", number, "then"): to for number, (_, to) in enumerate(cases)}
            data = {"choose": [{"when": when, "then": None} for when, _ in cases]}
        self._add(key, tag, data, ways | {("else",): otherwise.target})

    def _fork(self, key: str, tag: Tag) -> None:
        leaving, coming = self.source.leaving(key), self.source.coming(key)
        if len(leaving) < 2:
            if key not in self.joins and len(coming) < 2:
                self.passed[key] = self._only(key, tag)
            return  # where branches meet: the gateway they part at will claim it
        if len(coming) > 1 and any(self.source.nodes[link.source].name == "parallelGateway" for link in coming):
            self.source.refuse(tag, "branches meet and part at once", "use two gateways")
        meeting = self._meeting([link.target for link in leaving])
        if meeting is None:
            self.source.refuse(tag, "its branches do not meet", "let them meet at a parallel gateway")
            return
        names = self._branch_names(leaving)
        ways: dict[Path, str] = {("parallel", name): link.target for name, link in zip(names, leaving, strict=True)}
        self._add(
            key, tag, {"parallel": dict.fromkeys(names)}, ways | {NEXT: self._only(meeting, self.source.nodes[meeting])}
        )
        if meeting in self.joins:
            self.source.refuse(
                self.source.nodes[meeting],
                "branches of two gateways meet here",
                "let each meet at a gateway of its own",
            )
        self.joins[meeting] = self.all[-1].join

    @staticmethod
    def _branch_names(leaving: list[Link]) -> list[str]:
        found: list[str] = []
        for number, link in enumerate(leaving, 1):
            name = foreign.slug(link.name)
            found.append(name if name and name not in found else f"branch-{number}")
        return found

    def _meeting(self, starts: list[str]) -> str | None:
        """The first parallel gateway that all branches come to."""
        common: set[str] | None = None
        first: list[str] = []
        for start in starts:
            reach = self._reach(start)
            first = first or reach
            common = set(reach) if common is None else common & set(reach)
        gateways = [key for key in first if key in (common or ()) and self.source.nodes[key].name == "parallelGateway"]
        return next((key for key in gateways if len(self.source.coming(key)) > 1), None)

    def _reach(self, start: str) -> list[str]:
        found, front = [start], [start]
        while front:
            for link in self.source.leaving(front.pop(0)):
                if link.target not in found:
                    found.append(link.target)
                    front.append(link.target)
        return found


def _said(group: Sequence[Tag], name: str) -> str | None:
    """What one of the elements of a step says in an attribute of ours."""
    return next((found for one in group if (found := one.own(NAMESPACE, name))), None)
