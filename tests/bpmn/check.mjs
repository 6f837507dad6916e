// Reads {name: xml} as JSON from standard input; writes for each what bpmn-moddle finds: warnings, the types of the flow
// elements and of their event definitions, and how many shapes and edges are drawn.
import { BpmnModdle } from 'bpmn-moddle';

async function text(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts).toString('utf8');
}

function typesOf(elements) {
  return elements.flatMap((one) => [
    { id: one.id, type: one.$type, events: (one.eventDefinitions ?? []).map((event) => event.$type) },
    ...typesOf(one.flowElements ?? []),
  ]);
}

const found = {};
for (const [name, xml] of Object.entries(JSON.parse(await text(process.stdin)))) {
  const moddle = new BpmnModdle();
  const { rootElement, warnings } = await moddle.fromXML(xml);
  const process = rootElement.rootElements.find((one) => one.$type === 'bpmn:Process');
  const drawn = rootElement.diagrams.flatMap((one) => one.plane.planeElement);
  found[name] = {
    warnings: warnings.map((one) => one.message),
    elements: typesOf(process.flowElements),
    drawn: drawn.map((one) => [one.$type, one.bpmnElement?.id]),
    again: (await moddle.toXML(rootElement, { format: true })).xml,
  };
}
process.stdout.write(JSON.stringify(found));
