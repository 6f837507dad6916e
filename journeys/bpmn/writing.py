"""From a diagram to BPMN 2.0 XML (OMG formal/2011-01-03), with diagram interchange."""

from xml.etree.ElementTree import Element as Markup
from xml.etree.ElementTree import SubElement, indent, tostring

from journeys.bpmn.diagram import NAMESPACE, Diagram, Element, Flow, Rule, Trigger, spelled
from journeys.bpmn.layout import Box, Layout, Point, laid_out

_NAMESPACES = {
    "bpmn": "http://www.omg.org/spec/BPMN/20100524/MODEL",
    "bpmndi": "http://www.omg.org/spec/BPMN/20100524/DI",
    "dc": "http://www.omg.org/spec/DD/20100524/DC",
    "di": "http://www.omg.org/spec/DD/20100524/DI",
    "xsi": "http://www.w3.org/2001/XMLSchema-instance",
    "kaskad": NAMESPACE,
}
_NAMED = {"message": "Message", "signal": "Signal"}


def written(diagram: Diagram) -> str:
    """A diagram as XML, indented, ending with a newline."""
    root = Markup("bpmn:definitions", {f"xmlns:{prefix}": uri for prefix, uri in _NAMESPACES.items()})
    root.attrib |= {"id": "Definitions_1", "targetNamespace": NAMESPACE, "exporter": "Kaskad"}
    names = _root_elements(root, diagram)
    _process(root, diagram, names)
    _picture(root, diagram, laid_out(diagram))
    indent(root, "  ")
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"


def _root_elements(root: Markup, diagram: Diagram) -> dict[tuple[str, str], str]:
    """Messages and signals, each name once; gives their ids."""
    ids: dict[tuple[str, str], str] = {}
    for one in (*diagram.elements, *(rule.start for rule in diagram.rules)):
        trigger = one.trigger
        if trigger is not None and trigger.kind in _NAMED and (trigger.kind, trigger.body) not in ids:
            number = 1 + sum(kind == trigger.kind for kind, _ in ids)
            key = ids[trigger.kind, trigger.body] = f"{_NAMED[trigger.kind]}_{number}"
            SubElement(root, f"bpmn:{trigger.kind}", {"id": key, "name": trigger.body})
    return ids


def _process(root: Markup, diagram: Diagram, names: dict[tuple[str, str], str]) -> None:
    process = SubElement(root, "bpmn:process", {"id": diagram.id, "name": diagram.name, "isExecutable": "false"})
    _extension(process, diagram.detail, {})
    for one in diagram.elements:
        _flow_node(process, one, diagram.flows, names)
    for rule in diagram.rules:
        _rule(process, rule, names)
    for flow in diagram.flows:
        _flow(process, flow)


def _extension(parent: Markup, detail: tuple[str, str] | None, attributes: dict[str, str]) -> None:
    if detail is not None:
        inside = SubElement(parent, "bpmn:extensionElements")
        SubElement(inside, f"kaskad:{detail[0]}", attributes).text = detail[1]


def _flow_node(parent: Markup, one: Element, flows: list[Flow], names: dict[tuple[str, str], str]) -> None:
    markup = SubElement(parent, f"bpmn:{one.tag}", {"id": one.id})
    if one.name:
        markup.set("name", one.name)
    leaving = [flow for flow in flows if flow.source == one.id]
    for flow in leaving:
        if flow.default:
            markup.set("default", flow.id)
    markup.attrib |= one.attributes
    if one.of:
        markup.set("kaskad:of", one.of)
    if one.way is not None:
        markup.set("kaskad:way", spelled(one.way))
    _extension(markup, one.detail, {} if one.place is None else {"place": spelled(one.place)})
    for flow in flows:
        if flow.target == one.id:
            SubElement(markup, "bpmn:incoming").text = flow.id
    for flow in leaving:
        SubElement(markup, "bpmn:outgoing").text = flow.id
    if one.trigger is not None:
        _trigger(markup, one.id, one.trigger, names)


def _trigger(parent: Markup, key: str, trigger: Trigger, names: dict[tuple[str, str], str]) -> None:
    markup = SubElement(parent, f"bpmn:{trigger.kind}EventDefinition", {"id": f"{key}_definition"})
    if trigger.kind in _NAMED:
        markup.set(f"{trigger.kind}Ref", names[trigger.kind, trigger.body])
    elif trigger.body:
        _expression(markup, trigger.form or "condition", trigger.body, trigger.language)


def _expression(parent: Markup, tag: str, body: str, language: str) -> None:
    markup = SubElement(parent, f"bpmn:{tag}", {"xsi:type": "bpmn:tFormalExpression"})
    if language:
        markup.set("language", language)
    markup.text = body


def _rule(process: Markup, rule: Rule, names: dict[tuple[str, str], str]) -> None:
    markup = SubElement(process, "bpmn:subProcess", {"id": rule.id, "name": rule.name, "triggeredByEvent": "true"})
    _extension(markup, rule.detail, {})
    flow = Flow(f"{rule.id}_flow", rule.start.id, rule.end.id)
    for one in (rule.start, rule.end):
        _flow_node(markup, one, [flow], names)
    _flow(markup, flow)


def _flow(parent: Markup, flow: Flow) -> None:
    markup = SubElement(
        parent, "bpmn:sequenceFlow", {"id": flow.id, "sourceRef": flow.source, "targetRef": flow.target}
    )
    if flow.name:
        markup.set("name", flow.name)
    if flow.way is not None:
        markup.set("kaskad:way", spelled(flow.way))
    if flow.condition:
        _expression(markup, "conditionExpression", flow.condition, NAMESPACE)


# --- diagram interchange


def _picture(root: Markup, diagram: Diagram, layout: Layout) -> None:
    picture = SubElement(root, "bpmndi:BPMNDiagram", {"id": "Diagram_1"})
    plane = SubElement(picture, "bpmndi:BPMNPlane", {"id": "Plane_1", "bpmnElement": diagram.id})
    for one in diagram.elements:
        shown = {"isMarkerVisible": "true"} if one.tag == "exclusiveGateway" else {}
        _shape(plane, one.id, layout, shown)
    for rule in diagram.rules:
        _shape(plane, rule.id, layout, {"isExpanded": "true"})
        _shape(plane, rule.start.id, layout, {})
        _shape(plane, rule.end.id, layout, {})
    for key, points in layout.lines.items():
        _edge(plane, key, points, layout.labels.get(key))


def _shape(plane: Markup, key: str, layout: Layout, shown: dict[str, str]) -> None:
    shape = SubElement(plane, "bpmndi:BPMNShape", {"id": f"{key}_shape", "bpmnElement": key, **shown})
    _bounds(shape, layout.boxes[key])
    if key in layout.labels:
        _bounds(SubElement(shape, "bpmndi:BPMNLabel"), layout.labels[key])


def _edge(plane: Markup, key: str, points: list[Point], label: Box | None) -> None:
    edge = SubElement(plane, "bpmndi:BPMNEdge", {"id": f"{key}_edge", "bpmnElement": key})
    for x, y in points:
        SubElement(edge, "di:waypoint", {"x": str(x), "y": str(y)})
    if label is not None:
        _bounds(SubElement(edge, "bpmndi:BPMNLabel"), label)


def _bounds(parent: Markup, box: Box) -> None:
    sizes = {"x": str(box.x), "y": str(box.y), "width": str(box.width), "height": str(box.height)}
    SubElement(parent, "dc:Bounds", sizes)
