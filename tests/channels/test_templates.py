"""Template files: taken apart, checked, compiled, rendered."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from channels import compilation, templates
from channels.policy import Reason, Skip
from channels.rendering import Compiled, Links, Rendered, render, scopes
from channels.tokens import Signers
from core.database import Database
from core.errors import Conflict, InvalidInput
from core.settings import Settings

MJML = """---
template: draft-saved
subject: "Your application {{ event.application_id }}, {{ contact.first_name | default('friend') }}"
preheader: It waits for you & others
---
<mjml>
  <mj-body>
    {% if contact.vip %}
    <mj-section><mj-column><mj-text>Hello VIP</mj-text></mj-column></mj-section>
    {% endif %}
    <mj-section>
      <mj-column>
        <mj-text>Dear {{ contact.first_name | default("friend") }}, is 1 &lt; 2?<br/>
          {% if 1 < 2 %}Yes{% endif %}</mj-text>
        <mj-button href="https://portal.example/{{ event.application_id }}?a=1&amp;b=2">Go on</mj-button>
        <mj-text><a href="{{ unsubscribe_url }}">Unsubscribe</a> <a href="mailto:a@b.example">Write</a></mj-text>
      </mj-column>
    </mj-section>
  </mj-body>
</mjml>
"""
ROW = UUID(int=7), datetime(2026, 11, 1, 10, tzinfo=UTC)


def build(source: str, file: str = "x.mjml", attributes: set[str] | None = None) -> Compiled:
    parsed = compilation.parse(source, file)
    return Compiled(compilation.compile_source(parsed, compilation.check(parsed, attributes)).stored())


def fill(
    source: str, settings: Settings, contact: dict[str, Any] | None = None, event: dict[str, Any] | None = None
) -> Rendered | Skip:
    context = scopes(contact or {}, event or {}, {"name": "j", "title": "J"}) | Links(settings).context(*ROW)
    return render(build(source, "x.html" if "<mjml" not in source else "x.mjml"), context)


def html(body: str, front: str = "") -> str:
    return f"---\ntemplate: t\nsubject: s\n{front}---\n{body}\n"


def problems(source: str, attributes: set[str] | None = None, file: str = "x.mjml") -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        build(source, file, attributes)
    return [str(problem) for problem in caught.value.problems]


def test_a_letter_of_mjml(settings: Settings) -> None:
    letter = fill(MJML, settings, {"first_name": "Аня", "vip": False}, {"application_id": 17})
    assert isinstance(letter, Rendered)
    assert letter.subject == "Your application 17, Аня"
    assert "Dear Аня, is 1 &lt; 2?" in letter.html
    assert "Yes" in letter.html
    assert "Hello VIP" not in letter.html
    assert "It waits for you &amp; others" in letter.html
    assert "fonts.googleapis" not in letter.html
    assert letter.html.count("/t/o/") == 1
    assert letter.html.count("/t/c/") == 2, "the link, and the hidden one"
    assert 'href="mailto:a@b.example"' in letter.html
    assert "KJ" not in letter.html + letter.text


def test_the_tracked_link_leads_where_the_letter_says(settings: Settings) -> None:
    letter = fill(MJML, settings, {}, {"application_id": "1/7"})
    assert isinstance(letter, Rendered)
    token = letter.html.split("/t/c/")[1].split('"')[0]
    said = Signers(settings).click.read(token)
    assert said.payload == "https://portal.example/1/7?a=1&b=2"
    assert (said.message_id, said.created_at) == ROW


def test_a_branch_between_sections_is_kept(settings: Settings) -> None:
    letter = fill(MJML, settings, {"vip": True}, {"application_id": 17})
    assert isinstance(letter, Rendered)
    assert "Hello VIP" in letter.html
    assert "Hello VIP" in letter.text


def test_plain_text_is_made_with_links(settings: Settings) -> None:
    letter = fill(MJML, settings, {"first_name": "A <b>"}, {"application_id": 17})
    assert isinstance(letter, Rendered)
    assert "Dear A <b>, is 1 < 2?\nYes" in letter.text
    assert "Go on (https://portal.example/17?a=1&b=2)" in letter.text
    assert "\n\n\n" not in letter.text


def test_an_own_text_part_is_taken_as_it_is(settings: Settings) -> None:
    letter = fill(html("<p>Hi</p>\n--- text\nPlain {{ contact.x }}"), settings, {"x": "a&b"})
    assert isinstance(letter, Rendered)
    assert letter.text == "Plain a&b"


def test_values_are_escaped_in_html_and_cannot_break_the_subject(settings: Settings) -> None:
    evil = "<script>alert(1)</script>\r\nBcc: all@example.com\x00"
    source = html('<p title="{{ contact.name }}">{{ contact.name }}</p>').replace(
        "subject: s", 'subject: "Hi {{ contact.name }}"'
    )
    letter = fill(source, settings, {"name": evil + '"'})
    assert isinstance(letter, Rendered)
    assert "<script>" not in letter.html
    assert 'title="&lt;script&gt;' in letter.html
    assert letter.subject == 'Hi <script>alert(1)</script> Bcc: all@example.com "'
    assert "\r" not in letter.text
    assert "\x00" not in letter.text


def test_links_of_other_schemes_from_values_are_dropped(settings: Settings) -> None:
    letter = fill(html('<a href="{{ contact.site }}">x</a>'), settings, {"site": "javascript:alert(1)"})
    assert isinstance(letter, Rendered)
    assert 'href="#"' in letter.html
    assert "javascript" not in letter.html


@pytest.mark.parametrize("value", [None, "absent"])
def test_a_missing_value_skips_the_letter(settings: Settings, value: str | None) -> None:
    contact = {"first_name": None} if value is None else {}
    assert fill(html("<p>{{ contact.first_name }}</p>"), settings, contact) == Skip(
        Reason.MISSING_VALUE, "contact.first_name"
    )


@pytest.mark.parametrize(
    ("body", "want"),
    [
        ("{% if contact.x %}a{{ contact.x }}{% else %}b{% endif %}", "b"),
        ("{% if contact.x is defined %}a{% else %}b{% endif %}", "b"),
        ("{{ contact.x | default('b') }}", "b"),
        ("{% if contact.x == 'a' %}a{% else %}b{% endif %}", "b"),
        ("{{ contact.day | date('%d.%m.%Y') }}", "05.03.2026"),
        ("{{ contact.items }}", "two"),
        ("{% for key, item in event.cart.items() %}{{ key }}{{ item.price }}{% endfor %}", "a1"),
    ],
)
def test_guards_dates_and_names_of_methods(settings: Settings, body: str, want: str) -> None:
    letter = fill(
        html(f"<p>[{body}]</p>"), settings, {"day": "2026-03-05", "items": "two"}, {"cart": {"a": {"price": 1}}}
    )
    assert isinstance(letter, Rendered)
    assert f"[{want}]" in letter.html


@pytest.mark.parametrize(
    "body",
    [
        "{{ contact['__class__'].mro() }}",
        "{{ ''['__class__'] }}",
        "{{ contact.tags | attr('__class__') }}",
        "{{ '{0.__class__}'.format(contact.tags) }}",
        "{{ contact.tags.append(1) }}",
        "{{ 'a' * 100000000 }}",
        "{{ 10 ** 100000 }}",
        "{% for x in range(10000000) %}{% endfor %}",
        "{{ contact.n + 'x' }}",
    ],
)
def test_the_sandbox_holds_at_send_time(settings: Settings, body: str) -> None:
    got = fill(html(f"<p>{body}</p>"), settings, {"tags": ["a"], "n": 1})
    assert isinstance(got, Skip)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("<p>\n{{ first_name }}", "x.mjml:6:1: there is no value 'first_name' (write contact.first_name"),
        ("{{ contct.name }}", "did you mean contact?"),
        ("{{ contact.__class__ }}", "__class__ is not for templates"),
        ("{{ _track('x') }}", "_track is not for templates"),
        ("{% include 'x' %}", "cannot read other files"),
        ("{% if %}", "Jinja: Expected an expression"),
        ("\n\n{% if contact.x %}", "x.mjml:7:1: Jinja:"),
        ("{{ journey.nme }}", "there is no journey.nme"),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(body: str, words: str) -> None:
    assert words in "\n".join(problems(html(body)))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("<mjml>\n<mj-body>\n<mj-txt>a</mj-txt>\n</mj-body></mjml>", "x.mjml:7:1: <mj-txt> is no element of MJML"),
        ("<mjml>\n<mj-body>\n<mj-section>\n</mj-body></mjml>", "x.mjml:8:1: </mj-body> closes nothing here"),
        ("<mjml><mj-body>", "<mj-body> is never closed"),
        ('<mjml><mj-body><mj-include path="/etc/passwd"/></mj-body></mjml>', "would read other files"),
        ("<p>not mjml</p>", "an MJML letter begins with <mjml>"),
        ("<mjml><mj-head>{{ contact.x }}</mj-head><mj-body></mj-body></mjml>", "x.mjml:5:1: "),
    ],
)
def test_wrong_mjml_is_refused_with_its_line(body: str, words: str) -> None:
    assert words in "\n".join(problems(html(body)))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("<p>hi</p>", "no front matter"),
        ("---\ntemplate: t\n---\n<p>x</p>", "a letter needs a subject"),
        ("---\ntemplate: Bad Name\nsubject: s\n---\nx", "x.mjml:2:"),
        ("---\ntemplate: t\nsubject: s\nsubjct: x\n---\nx", "did you mean subject?"),
        ("---\ntemplate: t\nsubject: {{ contact.x }}\n---\nx", "x.mjml:3:"),
        ("---\ntemplate: t\nsubject: s\nfrom: nobody\n---\nx", "cannot be a sender"),
        ('---\ntemplate: t\nsubject: s\nfrom: "A <a@b.example>\\nBcc: c@d.example"\n---\nx', "cannot be a sender"),
        ("---\ntemplate: t\nsubject: s\nreply_to: nobody\n---\nx", "cannot be an address for answers"),
        (
            '---\ntemplate: t\nsubject: s\nreply_to: "a@b.example\\nBcc: c@d.example"\n---\nx',
            "cannot be an address for",
        ),
        ("---\ntemplate: t\nchannel: sms\nreply_to: a@b.example\n---\nx", "sms has no answers by mail"),
        ("---\ntemplate: t\nsubject: s\n---\n \n", "no body"),
        ("---\ntemplate: t\nsubject: s\nchannel: pigeon\n---\nx", "there is no channel pigeon"),
        ("---\ntemplate: t\nsubject: s\ntrack: [stars]\n---\nx", "track cannot be this"),
    ],
)
def test_wrong_front_matter_is_refused_with_its_line(source: str, words: str) -> None:
    assert words in "\n".join(problems(source))


def test_attributes_that_nobody_has_are_refused_unless_guarded() -> None:
    known = {"first_name"}
    assert "did you mean first_name?" in "\n".join(problems(html("<p>\n{{ contact.frist_name }}"), known, "x.html"))
    assert build(html("{{ contact.frist_name | default('') }}"), "x.html", known).uses("contact.frist_name")


def test_tracking_can_be_left_out(settings: Settings) -> None:
    letter = fill(html('<a href="https://a.example">x</a>', "track: false\n"), settings)
    assert isinstance(letter, Rendered)
    assert '<a href="https://a.example">' in letter.html
    assert "/t/o/" not in letter.html


async def test_publishing_makes_versions_and_repeating_does_not(database: Database) -> None:
    async with database.begin() as connection:
        first = await templates.publish(connection, html("<p>1</p>"), "a.html")
        again = await templates.publish(connection, html("<p>1</p>"), "a.html")
        second = await templates.publish(connection, html("<p>2</p>"), "a.html")
        found = await templates.find(connection, "t")
    assert (first.number, first.changed) == (1, True)
    assert (again.version_id, again.changed) == (first.version_id, False)
    assert (second.number, found.id) == (2, second.version_id)
    assert any("unsubscribe" in warning for warning in first.warnings)


async def test_a_template_keeps_its_channel(database: Database) -> None:
    async with database.begin() as connection:
        await templates.publish(connection, html("<p>1</p>"), "a.html")
    with pytest.raises(Conflict, match="is for email"):
        async with database.begin() as connection:
            await templates.publish(connection, "---\ntemplate: t\nchannel: sms\n---\nHi", "a.txt")


async def test_publishing_checks_attributes_against_the_database(database: Database) -> None:
    async with database.begin() as connection:
        with pytest.raises(InvalidInput, match="no contact has the attribute first_name"):
            await templates.publish(connection, html("{{ contact.first_name }}"), "a.html")
        await connection.execute(text("insert into attribute (name, type) values ('first_name', 'text')"))
        published = await templates.publish(connection, html("{{ contact.first_name }}"), "a.html")
    assert "contact.first_name has no default: who lacks it gets no message" in published.warnings
