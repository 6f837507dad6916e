# ruff: noqa: E501 - a line an example
"""Examples of every criterion and operator. A test runs each: it holds for Anna and not for Boris (tests/segments)."""

from typing import NamedTuple


class Section(NamedTuple):
    """A part of the reference: criteria with what they mean."""

    title: str
    keys: tuple[str, ...]
    """The keys of criteria, or the operators, that the part is about."""
    text: str
    examples: tuple[tuple[str, str], ...]
    """Criteria as YAML, and for whom they hold."""


OPERATORS: tuple[Section, ...] = (
    Section(
        "Equal or not",
        ("eq", "ne", "in", "not_in"),
        "Numbers are compared by value, texts letter by letter; a text equals no number. ",
        (
            ("{contact.city: Moscow}", "the city is Moscow: a bare value means `eq`"),
            ("{contact.city: {eq: Moscow}}", "the same, written out"),
            ("{contact.city: {ne: Kazan}}", "the city is another one, or not known"),
            ("{contact.city: [Moscow, Perm]}", "one of several: a bare list means `in`"),
            ("{contact.city: {in: [Moscow, Perm]}}", "the same, written out"),
            ("{contact.city: {not_in: [Kazan, Perm]}}", "none of them, or not known"),
            ("{contact.vip_club: true}", "a yes-or-no attribute"),
        ),
    ),
    Section(
        "More or less",
        ("gt", "gte", "lt", "lte", "between", "not_between"),
        "For numbers and for dates. Both ends of `between` belong to it. Several operators in one mapping must all hold.",
        (
            ("{contact.age: {gt: 18}}", "more than 18"),
            ("{contact.age: {gte: 18}}", "at least 18"),
            ("{contact.visits_a_week: {lt: 5}}", "less than 5"),
            ("{contact.visits_a_week: {lte: 4.5}}", "at most 4.5"),
            ("{contact.age: {between: [30, 40]}}", "from 30 to 40"),
            ("{contact.age: {not_between: [10, 20]}}", "outside of 10 to 20, or not known"),
            ("{contact.age: {gte: 18, lt: 65}}", "both"),
        ),
    ),
    Section(
        "Parts of texts and lists",
        (
            "contains",
            "not_contains",
            "contains_any",
            "contains_all",
            "starts",
            "not_starts",
            "ends",
            "not_ends",
        ),
        "`contains` finds a part of a text, or an element of a list.",
        (
            ("{contact.promo: {contains: RING}}", "the text has this in it"),
            ("{contact.promo: {not_contains: WINTER}}", "the text has not, or is not known"),
            ("{contact.interests: {contains: wheat}}", "the list has this element"),
            ("{contact.interests: {contains_any: [wheat, barley]}}", "the list has one of these"),
            ("{contact.interests: {contains_all: [wheat, oil]}}", "the list has all of these"),
            ("{contact.promo: {starts: SPRING}}", "begins so"),
            ("{contact.promo: {not_starts: WINTER}}", "does not begin so, or is not known"),
            ('{contact.email: {ends: "@example.com"}}', "ends so"),
            ("{contact.promo: {not_ends: ER}}", "does not end so, or is not known"),
        ),
    ),
    Section(
        "Patterns",
        ("like", "not_like", "regexp", "not_regexp"),
        "`like` is about the whole text: `%` is any text, `_` one character, a backslash before them takes them as they "
        "are. `regexp` finds a part; `^` and `$` are the ends of the text, `.` is anything but a line break, `\\w` a "
        "letter (Latin, Greek, Cyrillic), digit or `_`, `(?i)` at the beginning makes capitals not count. Up to 200 "
        "characters; repetitions inside repetitions, back-references and looking around are refused, because they can "
        "take for ever.",
        (
            (r"{contact.promo: {like: 'SPRING-50\%'}}", "exactly SPRING-50%"),
            ("{contact.promo: {not_like: 'WINTER%'}}", "not like this, or not known"),
            (r"{contact.promo: {regexp: '^SPRING-\d+'}}", "SPRING- and a number in front"),
            ("{contact.promo: {regexp: '(?i)spring'}}", "spring, in capitals or not"),
            ("{contact.promo: {not_regexp: '^WINTER$'}}", "does not match, or is not known"),
        ),
    ),
    Section(
        "Known, empty",
        ("exists", "empty"),
        "A missing value and null are the same. Empty is what is missing, an empty text and an empty list.",
        (
            ("{contact.phone: {exists: true}}", "there is one"),
            ("{contact.lost_reason: {exists: false}}", "there is none"),
            ("{contact.note: {empty: true}}", "nothing is written there"),
            ("{contact.favourites: {empty: false}}", "something is"),
        ),
    ),
    Section(
        "Moments",
        ("before", "after"),
        "Days `2026-05-09` (they begin at midnight UTC), moments `2026-05-09T10:00+03:00`, and distances from now: "
        "`now`, `now-30d`, `now+2h`. `gt`, `lte`, `between` and the others do the same for dates.",
        (
            ("{contact.renewed_at: {after: 2026-01-01}}", "later than that"),
            ("{contact.renewed_at: {before: now-7d}, contact.plan: pro}", "more than 7 days ago"),
            ("{contact.trial_ends: {between: [now, now+14d]}}", "within the next 14 days"),
            ("{contact.renewed_at: {gte: now-30d}}", "at most 30 days ago"),
        ),
    ),
    Section(
        "Days of the calendar",
        ("date",),
        "`today`, `yesterday`, `tomorrow`; `this`, `last` or `next` with `week`, `month`, `quarter` or `year`; `last 7 "
        "days`, `next 3 months` and so on, which begin or end with today. Weeks begin on Monday. Today is what it is in "
        "the contact's own time zone or, where that is not known, in the installation's (`KASKAD_TIME_ZONE`). What is "
        "no fact about the contact itself (events, messages, sessions) goes by the installation's. `in Europe/Moscow` "
        "or `in the installation's time zone` behind the words chooses another one.",
        (
            ("{contact.called_on: {date: today}}", "today"),
            ("{contact.paid_on: {date: yesterday}}", "yesterday"),
            ("{contact.meets_on: {date: tomorrow}}", "tomorrow"),
            ("{contact.called_on: {date: this week}}", "from Monday to Sunday of this week"),
            ("{contact.signed_on: {date: last week}}", "in the week before this one"),
            ("{contact.trial_ends: {date: next week}}", "in the week after this one"),
            ("{contact.called_on: {date: this month}}", "in this month"),
            ("{contact.renewed_at: {date: last month}}", "in the month before this one"),
            ("{contact.ships_on: {date: next month}}", "in the month after this one"),
            ("{contact.called_on: {date: this quarter}}", "in this quarter"),
            ("{contact.joined_on: {date: last quarter}}", "in the quarter before this one"),
            ("{contact.called_on: {date: this year}}", "in this year"),
            ("{contact.first_paid_on: {date: last year}}", "in the year before this one"),
            ("{contact.passport_ends: {date: next year}}", "in the year after this one"),
            ("{contact.signed_on: {date: last 14 days}}", "today or on the 13 days before"),
            ("{contact.trial_ends: {date: next 2 weeks}}", "from today on, for two weeks"),
            ("{contact.called_on: {date: today in Europe/Moscow}}", "today by the clock of Moscow"),
            ("{contact.called_on: {date: today in the installation's time zone}}", "today by the installation's clock"),
        ),
    ),
    Section(
        "Anniversaries",
        ("anniversary",),
        "Month and day count, the year does not. The 29th of February is kept on the 28th in years without it.",
        (
            ("{contact.born: {date: anniversary}}", "it is the contact's birthday"),
            ("{contact.born: {anniversary: today}}", "the same"),
            ("{contact.born: {anniversary: next 7 days}}", "the birthday is near"),
            ("{contact.born: {anniversary: this month}}", "the birthday is in this month"),
        ),
    ),
)

CRITERIA: tuple[Section, ...] = (
    Section(
        "All, any, not",
        ("all", "any", "none", "not", "include", "exclude"),
        "Several criteria in one mapping must all hold. They nest up to ten deep. `include` and `exclude` take segments "
        "by name as well as criteria: in at least one of them, in none of them.",
        (
            ("{contact.city: Moscow, contact.plan: pro}", "both"),
            ("{all: [{contact.city: Moscow}, {contact.plan: pro}]}", "both"),
            ("{any: [{contact.city: Perm}, {contact.plan: pro}]}", "at least one of them"),
            ("{none: [{contact.city: Kazan}, {contact.plan: free}]}", "none of them"),
            ("{not: {contact.city: Kazan}}", "not so"),
            ("{include: [loyal, advisers], exclude: [staff]}", "in one of two segments and not in a third"),
            ("{include: [loyal, {contact.tags: vip}], exclude: {contact.plan: free}}", "criteria among the names"),
        ),
    ),
    Section(
        "Attributes",
        ("contact.owner", "contact.stage"),
        "Every attribute of a contact, with any operator that fits its type: text, number, boolean, date, datetime or "
        "list. Whatever a CRM says of a contact (owner, stage, category) is an attribute.",
        (
            ("{contact.owner: olga}", "Olga looks after the contact"),
            ("{contact.stage: {in: [trial, customer]}}", "it is at one of these stages"),
        ),
    ),
    Section(
        "The contact itself",
        (
            "contact.id",
            "contact.language",
            "contact.time_zone",
            "contact.created_at",
            "contact.updated_at",
        ),
        "",
        (
            ("{contact.id: 2}", "this very contact"),
            ("{contact.language: ru}", "its language is Russian"),
            ("{contact.time_zone: {starts: Europe/}}", "it lives by a European clock"),
            ("{contact.created_at: {date: last 30 days}}", "it is new"),
            ("{contact.updated_at: {after: now-1d}}", "it changed within a day"),
        ),
    ),
    Section(
        "Known, active",
        ("contact.known", "contact.identified_at", "contact.last_active_at"),
        "A contact is known once it has an identity beside a cookie. It was last active at its last event, those left "
        "out that are none of its doing (coming into segments, entering journeys, deliveries, bounces, complaints, unsubscribing).",
        (
            ("{contact.known: true}", "known by more than a cookie"),
            ("{contact.identified_at: {date: this month}}", "known since this month"),
            ("{contact.last_active_at: {after: now-7d}}", "something happened within 7 days"),
        ),
    ),
    Section(
        "Identities",
        (
            "contact.email",
            "contact.phone",
            "contact.external_id",
            "contact.anonymous_id",
            "contact.push_endpoint",
        ),
        "A contact may have several of a kind: one that passes is enough. A denial holds if none is so. Capitals do "
        "not count in addresses. Operators for texts.",
        (
            ("{contact.email: {like: 'anna%@example.com'}}", "an address like this"),
            ("{contact.phone: {starts: '+7'}}", "a number in this country"),
            ("{contact.external_id: {exists: true}}", "it is in the CRM"),
            ("{contact.anonymous_id: {exists: true}}", "it was on the site"),
            ("{contact.push_endpoint: {exists: true}}", "it can be pushed to"),
        ),
    ),
    Section(
        "Tags",
        ("contact.tags",),
        "",
        (
            ("{contact.tags: vip}", "has the tag"),
            ("{contact.tags: [vip, press]}", "has one of them"),
            ("{contact.tags: {contains_all: [vip, new]}}", "has all of them"),
            ("{contact.tags: {not_in: [lost, blocked]}}", "has none of them"),
            ("{contact.tags: {exists: true}, contact.plan: pro}", "has tags at all"),
        ),
    ),
    Section(
        "Consents",
        ("contact.consents",),
        "The purpose is marketing if none is named. `state` is `granted` (if not given), `refused` or `unknown`: never "
        "asked. `within` and `when` are about the last word.",
        (
            ("{contact.consents: sms}", "agreed to marketing by SMS"),
            ("{contact.consents: {channel: email, purpose: news}}", "agreed to news by email"),
            ("{contact.consents: {channel: voice, state: refused}}", "refused to be called"),
            ("{contact.consents: {channel: webpush, state: unknown}}", "was never asked"),
            ("{contact.consents: {channel: sms, within: 30d}}", "agreed within 30 days"),
        ),
    ),
    Section(
        "Suppressed addresses",
        ("contact.suppressed",),
        "Addresses that must not be used, by channel and reason: unsubscribed, manual, complained or bounced.",
        (
            ("{contact.suppressed: any}", "an address of the contact must not be used"),
            ("{contact.suppressed: sms}", "nor by SMS"),
            ("{contact.suppressed: {channel: sms, reason: bounced}}", "because messages came back"),
        ),
    ),
    Section(
        "Segments",
        ("contact.segments",),
        "Members of a segment, by its list or its criteria. A segment must not contain itself through others.",
        (
            ("{contact.segments: loyal}", "is in it"),
            ("{contact.segments: [loyal, advisers]}", "is in one of them"),
            ("{contact.segments: {contains_all: [loyal, in-moscow]}}", "is in all of them"),
            ("{contact.segments: {not_in: [staff, testers]}}", "is in none of them"),
        ),
    ),
    Section(
        "Companies",
        (
            "contact.company",
            "company.key",
            "company.name",
            "company.created_at",
            "company.changed_at",
            "company.employees",
        ),
        "The company of a contact: its key, its name, and every attribute that companies have. A contact without a "
        "company is like one whose value is missing.",
        (
            ("{contact.company: acme.com}", "belongs to the company with this key"),
            ("{contact.company: {exists: true}, contact.city: Moscow}", "belongs to some company"),
            ("{company.key: {ends: .com}}", "by a part of the key"),
            ("{company.name: {contains: Acme}}", "by its name"),
            ("{company.employees: {gte: 100}}", "by an attribute of the company"),
            ("{company.created_at: {date: this month}}", "the company is new here"),
            ("{company.changed_at: {after: now-7d}}", "the company changed lately"),
        ),
    ),
    Section(
        "Events",
        ("event",),
        "`name` is one name or several. Which of them count: `within` the last so much, `when` (a period, or `after`, "
        "`before` …), `where` the properties are so. What must hold of them together: `count` (at least one if nothing "
        "is said), `days` (different days), `sum`, `min`, `max`, `average` and `distinct` (different values) of a property, "
        "`first` and `last` (when), `earliest` and `latest` (the properties of that one event). Where there are no "
        "events, count, days, sum and distinct are 0, and nothing else passes.",
        (
            ("{event: order.paid}", "ever paid"),
            ("{event: {name: order.paid, count: {gte: 3}}}", "at least 3 times"),
            ("{event: {name: order.refunded, count: 0}}", "never"),
            ("{event: {name: [order.paid, order.shipped], count: {gte: 4}}}", "events of several names together"),
            ("{event: {name: order.paid, within: 30d}}", "within the last 30 days"),
            ("{event: {name: order.paid, when: last month}}", "last month"),
            ("{event: {name: order.paid, when: {between: [2026-04-01, 2026-05-01]}}}", "in April"),
            ("{event: {name: order.paid, where: {event.total: {gt: 1000}}}}", "with a property"),
            ("{event: {name: order.paid, sum: {event.total: {gte: 1500}}, within: 90d}}", "spent so much in 90 days"),
            ("{event: {name: order.paid, min: {event.total: {gte: 100}}}}", "never less than 100"),
            ("{event: {name: order.paid, max: {event.total: {gt: 1000}}}}", "once more than 1000"),
            ("{event: {name: order.paid, average: {event.total: {between: [300, 700]}}}}", "so much on average"),
            ("{event: {name: order.paid, distinct: {event.product: {gte: 2}}}}", "at least two different products"),
            ("{event: {name: order.paid, days: {gte: 3}}}", "on at least 3 days"),
            ("{event: {name: order.paid, first: {before: 2026-04-30}}}", "the first time was before then"),
            ("{event: {name: order.paid, last: {after: now-7d}}}", "the last time is not long ago"),
            ("{event: {name: subscription.changed, latest: {event.plan: pro}}}", "changed to pro, and not away since"),
            ("{event: {name: subscription.changed, earliest: {event.plan: free}}}", "began with free"),
        ),
    ),
    Section(
        "One thing after another",
        ("sequence",),
        "`steps` are two to five events, names or mappings with `name` and `where`, each later than the one before and, with "
        "`apart`, at most so much later. `without` is what did not come after them; with `apart`, within that time, which is over. `within` and `when` are "
        "about the first step.",
        (
            ("{sequence: {steps: [cart.updated, order.paid]}}", "one, and later the other"),
            ("{sequence: {steps: [cart.updated, order.paid], apart: 1d}}", "within a day"),
            (
                "{sequence: {steps: [cart.updated, {name: order.paid, where: {event.total: {gt: 1000}}}, review.written]}}",
                "three",
            ),
            ("{sequence: {steps: [demo.booked], without: demo.held, apart: 3d, within: 60d}}", "booked and not held"),
        ),
    ),
    Section(
        "Not since",
        ("not_since",),
        "Did `since`, and after the last time not `event`. Both are names or mappings with `name` and `where`; `within` "
        "and `when` are about that last time.",
        (
            ("{not_since: {event: order.paid, since: cart.updated}}", "the cart was filled and not paid since"),
            ("{not_since: {event: order.paid, since: cart.updated, within: 7d}}", "and that was within 7 days"),
        ),
    ),
    Section(
        "Pages, forms and links",
        ("page", "form", "link"),
        "What the site reports: `page.viewed`, `form.submitted` and `link.clicked`. In `url`, `path`, `title` and `referrer`, a "
        "bare text may have `*` in it; any test is possible. `where`, `count`, `within` and `when` as with events.",
        (
            ("{page: /pricing*}", "looked at a page by its path"),
            ('{page: "https://example.com/pricing?plan=*"}', "by its whole address"),
            ("{page: {url: {contains: pricing}, count: {gte: 2}, within: 7d}}", "at least twice within 7 days"),
            ("{page: {title: {starts: Prices}, when: this week}}", "by its title, this week"),
            ('{page: {path: /pricing, referrer: "https://news.example/*"}}', "coming from there"),
            ("{form: subscribe}", "sent a form"),
            ("{form: {form: contact-us, where: {event.topic: prices}}}", "with this in a field"),
            ('{link: "*/price-list.pdf"}', "followed a link, or downloaded a file"),
        ),
    ),
    Section(
        "Sessions, campaigns, referrers, devices, places",
        ("session", "utm", "referrer", "device", "geography"),
        "A session is a visit to the site without a long silence in it. `which` says which is compared: `any` (if not given), the "
        "`first` or the `last`; the first and last campaign are remembered on their own. Each takes `count`, `within` and "
        "`when`. `session` compares anything that the others do, and `pages`, `seconds`, `entry_url` and `exit_url`.",
        (
            ("{session: {pages: {gte: 5}, within: 30d}}", "a long session"),
            ("{session: {seconds: {gte: 600}, entry_url: '*/pricing*'}}", "ten minutes, begun at the prices"),
            (
                "{session: {source: google, device: mobile, region: MOW, language: ru, count: {gte: 1}}}",
                "all of one session",
            ),
            ("{session: {exit_url: '*/cart', which: last}}", "the last session ended so"),
            ("{utm: {source: google}}", "came by a campaign"),
            ("{utm: {campaign: spring, medium: cpc, within: 90d}}", "lately, by this one"),
            ("{utm: {source: google, which: first}}", "was brought by it in the first place"),
            ("{utm: {term: {contains: wheat}, content: banner, which: last}}", "by the words searched for"),
            ('{referrer: "https://news.example/*"}', "came from this site"),
            ("{referrer: {url: {contains: news}, which: first}}", "the first time"),
            ("{device: mobile}", "came with a phone"),
            ("{device: {kind: [mobile, tablet], os: iOS, within: 7d}}", "lately, with one of these"),
            ("{device: {brand: Apple, model: {starts: iPhone}}}", "with such a make, where the browser says it"),
            ("{device: {os: iOS, browser: [Safari, Chrome], which: last}}", "the last time with this system"),
            ("{geography: RU}", "was in this country"),
            ("{geography: {country: [RU, KZ], city: Moscow, which: last}}", "was there the last time"),
        ),
    ),
    Section(
        "Messages",
        ("message",),
        "By `template`, `journey`, `step` (of a journey), `channel`, `purpose`, `provider`, `reason`. `state` is `accepted` (if not "
        "given: the provider took it), `delivered`, `opened`, `clicked`, `answered`, `ignored` (neither opened nor "
        "clicked), `bounced`, `failed`, `skipped` (by the policy; `reason` says why) or `in_doubt`. `url` is the link that "
        "was clicked, `answer` the text or key that was answered. `count`, `within` and `when` are about when the message was made. "
        "Letters to the staff do not count.",
        (
            ("{message: welcome}", "was sent a template"),
            ("{message: {template: welcome, state: delivered}}", "it arrived"),
            ("{message: {template: welcome, state: opened, within: 7d}}", "opened it"),
            ('{message: {template: welcome, url: "*/pricing*"}}', "clicked this link in it"),
            ("{message: {channel: email, state: clicked, count: {gte: 1}, when: this month}}", "clicked in any letter"),
            ("{message: {journey: onboarding, step: letter, state: opened}}", "opened the letter of a step"),
            ("{message: {template: question, state: answered}}", "answered it"),
            ("{message: {template: question, answer: {contains: 'yes'}}}", "answered like this"),
            ("{message: {template: digest, state: ignored}}", "was sent it and did not look"),
            ("{message: {channel: sms, state: bounced}}", "it came back"),
            ("{message: {channel: sms, state: failed, reason: no such number}}", "it was refused"),
            ("{message: {state: skipped, reason: cap, purpose: marketing}}", "was not sent for a reason"),
            ("{message: {provider: main, state: in_doubt}}", "nobody knows whether it arrived"),
        ),
    ),
    Section(
        "Journeys",
        ("journey",),
        "`state` is `entered` (if not given: is or was in it), `running` or `finished`. `step` is where the contact stands now, "
        "`visited` where it came by; `outcome`, `version`, `key`. Times are of entering.",
        (
            ("{journey: onboarding}", "is or was in it"),
            ("{journey: {name: onboarding, state: finished, outcome: bought}}", "finished it so"),
            ("{journey: {name: renewal, state: running}}", "is in it"),
            ("{journey: {name: renewal, step: call}}", "stands at this step"),
            ("{journey: {name: onboarding, visited: letter}}", "came by this step"),
            ("{journey: {name: onboarding, version: 1, count: {gte: 1}, within: 90d}}", "by version and time"),
            ("{journey: {name: renewal, key: contract-7}}", "for this key"),
        ),
    ),
    Section(
        "Scores",
        ("score",),
        "The numbers that journeys count up and down, which are attributes; one that is missing is 0.",
        (
            ("{score: {points: {gte: 10}}}", "has at least 10 points"),
            ("{score: {patience: {lte: 0}, points: {gt: 0}}}", "a missing one counts as 0"),
        ),
    ),
    Section(
        "A random share",
        ("random",),
        "So many percent of all contacts, always the same ones. `from` begins elsewhere, so that shares do not overlap; another "
        "`salt` draws anew.",
        (
            ("{random: 50}", "half of all"),
            ("{random: {share: 25, from: 10}}", "a quarter, from 10 % on"),
            ("{random: {share: 40.5, salt: spring-2}}", "another draw"),
        ),
    ),
    Section(
        "Recency, frequency, money",
        ("rfm",),
        "Scores from 1 to 5 among all contacts with the event (`within` the time, `where` it is so): 5 is the fifth of them "
        "who did it last, most often, and whose sum of `value` (a property; `event.value` if not given) is the greatest. Equals score "
        "alike. `total` is the sum of the three. Whoever has no such event has no scores.",
        (
            ("{rfm: {event: order.paid, value: event.total, recency: {gte: 4}}}", "paid lately, as others go"),
            ("{rfm: {event: order.paid, value: event.total, frequency: 5, monetary: {gte: 4}}}", "often and much"),
            ("{rfm: {event: order.paid, value: event.total, within: 365d, total: {gte: 13}}}", "the best"),
        ),
    ),
)

SAME = Section(
    "Of the run: same",
    ("same",),
    "Only in `if`, `choose` and `until` of journeys, in `where`, `earliest` and `latest` of events: compares with a "
    "property of the event that began the run, so that of two runs of a contact it may hold for one only. Nothing is the "
    "same as a property that is missing there, a list or a mapping. Segments know no such event and refuse it.",
    (
        (
            "{event: {name: order.paid, where: {event.product: {same: product}}}}",
            "the product by which the run began was paid",
        ),
        (
            "{event: {name: order.paid, sum: {event.total: {gte: 500}}, where: {event.product: {same: product}}}}",
            "at least 500 was paid for it",
        ),
        (
            "{event: {name: order.paid, latest: {event.product: {same: product}}}}",
            "it was what was paid last",
        ),
    ),
)
