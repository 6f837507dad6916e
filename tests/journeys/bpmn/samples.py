"""Journeys and diagrams that several tests use."""

EVERY_KIND = """\
journey: every-kind
name: "Все шаги: every kind"
enter: {event: order.paid, key: event.order_id}
goal:
  - {event: order.returned, outcome: returned}
exit:
  - {event: contact.left}
  - {when: {contact.tags: blocked}, outcome: blocked}
priority: triggered
quiet_hours: 22:00-08:00
send_window: {hours: 09:00-19:00, days: weekdays, holidays: DE-BY, in: Europe/Berlin}
limits: {messages: 3, within: 7d, per_minute: 600, budget: 500}
conversion: {event: order.paid, within: 14d, value: event.total}
steps:
  - wait: {date: contact.birthday, minus: 3d, yearly: true}
    missing: no-date
  - wait: {hours: 10:00-20:00, days: weekdays}
  - wait: 1d
    until:
      - {event: a.b, then: [{tag: vip}]}
      - {when: {contact.tags: vip}}
    then:
      - score: {points: 5}
      - segment: {add: readers, remove: [trial]}
      - suppress: [sms, voice]
  - parallel:
      one: [{send: email, template: x}, {wait: 1h}]
      two:
        - notify: email
          to: sales@example.com
          subject: Hello
          text: "World {{ contact.email }}"
    join: first
  - id: sms
    send: email
    template: ask
  - ask: link
    of: sms
    answers:
      "https://example.com/yes": [{consent: {sms: true}}]
      "https://example.com/no": gone
    within: 2d
    else: [{hide: banner}]
  - call: https://example.com/score
    save: {score: answer.score}
    answers:
      - when: {status: 404}
        then: gone
      - when: {answer.score: {gte: 50}}
        then: [{show: banner, template: hi}]
    failed: [{update: {attributes: {broken: true}}}]
  - enroll: other
    await: 30d
    outcomes: {bought: gone, silent: [{send: email, template: silent}]}
    late: gone
  - enroll: another
  - id: arms
    split: {a: 3, b: {weight: 1, then: [{send: email, template: b}]}}
    holdout: 5
    winner: {metric: clicked, deadline: 3d}
  - choose:
      - when: {contact.tags: vip}
        then: [end]
    else: gone
  - id: no-date
    wait: 1h
  - if: {contact.tags: x}
    then: gone
  - if: {contact.tags: again}
    then: [{wait: 7d}, {goto: sms}]
  - end: late
  - id: gone
    delete: contact
"""

CAMUNDA = """\
<?xml version="1.0" encoding="UTF-8"?>
<bpmn:definitions xmlns:bpmn="http://www.omg.org/spec/BPMN/20100524/MODEL"
    xmlns:bpmndi="http://www.omg.org/spec/BPMN/20100524/DI" xmlns:dc="http://www.omg.org/spec/DD/20100524/DC"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xmlns:di="http://www.omg.org/spec/DD/20100524/DI"
    xmlns:zeebe="http://camunda.org/schema/zeebe/1.0" xmlns:modeler="http://camunda.org/schema/modeler/1.0"
    id="Definitions_0k2x" targetNamespace="http://bpmn.io/schema/bpmn" exporter="Camunda Modeler"
    exporterVersion="5.30.0" modeler:executionPlatform="Camunda Cloud" modeler:executionPlatformVersion="8.6.0">
  <bpmn:process id="Process_1x8r2fz" name="Remind of the cart" isExecutable="true">
    <bpmn:startEvent id="StartEvent_1" name="Cart left">
      <bpmn:outgoing>Flow_0c0h1zy</bpmn:outgoing>
      <bpmn:messageEventDefinition id="MessageEventDefinition_0b" messageRef="Message_2q" />
    </bpmn:startEvent>
    <bpmn:sequenceFlow id="Flow_0c0h1zy" sourceRef="StartEvent_1" targetRef="Gateway_0meet1" />
    <bpmn:sequenceFlow id="Flow_1aa" sourceRef="Gateway_0race1" targetRef="Event_0paid1" />
    <bpmn:sequenceFlow id="Flow_1ab" sourceRef="Gateway_0race1" targetRef="Event_0time1" />
    <bpmn:sequenceFlow id="Flow_1ac" sourceRef="Event_0paid1" targetRef="Event_0end11" />
    <bpmn:sequenceFlow id="Flow_1ad" sourceRef="Event_0time1" targetRef="Gateway_0which" />
    <bpmn:sequenceFlow id="Flow_1ae" name="contact.consents: sms"
        sourceRef="Gateway_0which" targetRef="Activity_0sms11" />
    <bpmn:sequenceFlow id="Flow_1af" sourceRef="Gateway_0which" targetRef="Activity_0mail1" />
    <bpmn:sequenceFlow id="Flow_1ag" sourceRef="Activity_0sms11" targetRef="Gateway_0join1" />
    <bpmn:sequenceFlow id="Flow_1ah" sourceRef="Activity_0mail1" targetRef="Gateway_0join1" />
    <bpmn:sequenceFlow id="Flow_1ai" sourceRef="Gateway_0join1" targetRef="tag-them" />
    <bpmn:sequenceFlow id="Flow_1aj" sourceRef="tag-them" targetRef="Gateway_0split" />
    <bpmn:sequenceFlow id="Flow_1ak" name="once more (90%)" sourceRef="Gateway_0split" targetRef="Event_0day11" />
    <bpmn:sequenceFlow id="Flow_1al" name="leave 10%" sourceRef="Gateway_0split" targetRef="Event_0end22" />
    <bpmn:sequenceFlow id="Flow_1am" sourceRef="Event_0day11" targetRef="Gateway_0meet1" />
    <bpmn:sequenceFlow id="Flow_1an" sourceRef="Gateway_0meet1" targetRef="Gateway_0race1" />
    <bpmn:exclusiveGateway id="Gateway_0meet1">
      <bpmn:incoming>Flow_0c0h1zy</bpmn:incoming>
      <bpmn:incoming>Flow_1am</bpmn:incoming>
      <bpmn:outgoing>Flow_1an</bpmn:outgoing>
    </bpmn:exclusiveGateway>
    <bpmn:eventBasedGateway id="Gateway_0race1" />
    <bpmn:intermediateCatchEvent id="Event_0paid1" name="Paid">
      <bpmn:messageEventDefinition id="MessageEventDefinition_0c" messageRef="Message_3q" />
    </bpmn:intermediateCatchEvent>
    <bpmn:intermediateCatchEvent id="Event_0time1" name="Four hours">
      <bpmn:timerEventDefinition id="TimerEventDefinition_0a">
        <bpmn:timeDuration xsi:type="bpmn:tFormalExpression">PT4H</bpmn:timeDuration>
      </bpmn:timerEventDefinition>
    </bpmn:intermediateCatchEvent>
    <bpmn:exclusiveGateway id="Gateway_0which" name="May we?" default="Flow_1af" />
    <bpmn:sendTask id="Activity_0sms11" name="SMS: cart-reminder" />
    <bpmn:serviceTask id="Activity_0mail1" name="Remind them by a letter">
      <bpmn:documentation>send: email
template: cart-reminder
purpose: news</bpmn:documentation>
      <bpmn:extensionElements>
        <zeebe:taskDefinition type="mailer" retries="3" />
      </bpmn:extensionElements>
    </bpmn:serviceTask>
    <bpmn:exclusiveGateway id="Gateway_0join1" />
    <bpmn:serviceTask id="tag-them" name="tag: reminded" />
    <bpmn:exclusiveGateway id="Gateway_0split" name="Once more?" />
    <bpmn:intermediateCatchEvent id="Event_0day11">
      <bpmn:timerEventDefinition id="TimerEventDefinition_0b">
        <bpmn:timeDuration xsi:type="bpmn:tFormalExpression">P1DT12H</bpmn:timeDuration>
      </bpmn:timerEventDefinition>
    </bpmn:intermediateCatchEvent>
    <bpmn:endEvent id="Event_0end11" name="bought" />
    <bpmn:endEvent id="Event_0end22" />
    <bpmn:subProcess id="Activity_0goal1" name="Goal" triggeredByEvent="true">
      <bpmn:startEvent id="Event_0gs111">
        <bpmn:messageEventDefinition id="MessageEventDefinition_0d" messageRef="Message_3q" />
      </bpmn:startEvent>
      <bpmn:sequenceFlow id="Flow_1zz" sourceRef="Event_0gs111" targetRef="Event_0ge111" />
      <bpmn:endEvent id="Event_0ge111" name="bought" />
    </bpmn:subProcess>
    <bpmn:textAnnotation id="TextAnnotation_0x">
      <bpmn:text>Ask legal</bpmn:text>
    </bpmn:textAnnotation>
    <bpmn:association id="Association_0x" sourceRef="Gateway_0which" targetRef="TextAnnotation_0x" />
  </bpmn:process>
  <bpmn:message id="Message_2q" name="cart.left" />
  <bpmn:message id="Message_3q" name="order.paid">
    <bpmn:extensionElements>
      <zeebe:subscription correlationKey="=cart" />
    </bpmn:extensionElements>
  </bpmn:message>
  <bpmndi:BPMNDiagram id="BPMNDiagram_1">
    <bpmndi:BPMNPlane id="BPMNPlane_1" bpmnElement="Process_1x8r2fz" />
  </bpmndi:BPMNDiagram>
</bpmn:definitions>
"""
"""As Camunda Modeler writes it: flows before elements, ids made by the tool, details of its engine."""

REFUSED = """\
<definitions xmlns="http://www.omg.org/spec/BPMN/20100524/MODEL" id="d" targetNamespace="http://bpmn.io/schema/bpmn">
  <process id="Process_1" isExecutable="false">
    <startEvent id="Start"><conditionalEventDefinition /></startEvent>
    <sequenceFlow id="f1" sourceRef="Start" targetRef="Mail" />
    <sendTask id="Mail" name="Write to them" />
    <sequenceFlow id="f2" sourceRef="Mail" targetRef="Ask" />
    <exclusiveGateway id="Ask" name="Rich?" default="f4" />
    <sequenceFlow id="f3" name="yes" sourceRef="Ask" targetRef="Or">
      <conditionExpression>${amount &gt; 100}</conditionExpression>
    </sequenceFlow>
    <sequenceFlow id="f4" sourceRef="Ask" targetRef="Pause" />
    <inclusiveGateway id="Or" name="Any of these" />
    <sequenceFlow id="f5" sourceRef="Or" targetRef="Pause" />
    <intermediateCatchEvent id="Pause">
      <timerEventDefinition><timeCycle>R3/PT10H</timeCycle></timerEventDefinition>
    </intermediateCatchEvent>
    <sequenceFlow id="f6" sourceRef="Pause" targetRef="Script" />
    <scriptTask id="Script" name="Compute"><script>rm -rf</script></scriptTask>
    <sequenceFlow id="f7" sourceRef="Script" targetRef="Broken" />
    <sequenceFlow id="f8" sourceRef="Script" targetRef="Nowhere" />
    <endEvent id="Broken" name="failed"><errorEventDefinition /></endEvent>
    <boundaryEvent id="Edge" attachedToRef="Mail"><errorEventDefinition /></boundaryEvent>
    <choreographyTask id="Dance" />
  </process>
</definitions>
"""
"""In the default namespace, as other tools write it; nearly nothing in it has a meaning here."""
