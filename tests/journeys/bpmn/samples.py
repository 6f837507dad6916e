"""Journeys and diagrams that several tests use."""

EVERY_KIND = """\
journey: every-kind
name: "Все шаги: every kind"
enter: {event: order.paid, key: event.order_id}
goal: {event: order.returned, outcome: returned}
exit:
  - {event: contact.left}
priority: triggered
quiet_hours: 22:00-08:00
limits: {messages: 3, within: 7d}
conversion: {event: order.paid, value: event.total}
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
  - split: {a: 3, b: {weight: 1, then: [{send: email, template: b}]}}
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
  - end: late
  - id: gone
    delete: contact
"""
