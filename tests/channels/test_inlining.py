"""Style sheets written into elements, with Jinja tags all over the page."""

import re

from channels import compilation
from channels.inlining import inlined
from channels.markup import Marks


def _through(page: str) -> str:
    marks = Marks()
    return marks.show(inlined(marks.hide(page), marks))


def test_rules_go_where_they_match() -> None:
    done = _through(
        "<html><head><style>p{color:red} @media print{p{color:blue}}</style></head><body><p>x</p></body></html>"
    )
    assert '<p style="color: red;">x</p>' in done
    assert "@media print" in done


def test_tags_stay_where_they_were() -> None:
    done = _through(
        "<html><head><style>td{color:red}</style><title>{{ a }}</title></head><body><table>"
        "{% for row in event.rows %}<tr><td>{{ row }}</td></tr>{% endfor %}</table>"
        '<a href="{{ b }}">{{ c }}</a></body></html>'
    )
    assert '{% for row in event.rows %}<tr><td style="color: red;">{{ row }}</td></tr>{% endfor %}' in done
    assert "<title>{{ a }}</title>" in done
    assert '<a href="{{ b }}">{{ c }}</a>' in done


def test_a_page_whose_tags_would_be_lost_is_left_alone() -> None:
    page = "<html><head><style>p{color:red}</style></head><body><p {% if a %}class='x'{% endif %}>y</p></body></html>"
    assert _through(page) == page
    ruled = "<html><head><style>p{color:{{ a }}}</style></head><body><p>y</p></body></html>"
    assert _through(ruled) == ruled


def test_nothing_is_fetched_and_a_page_without_rules_is_the_same() -> None:
    page = '<html><head><link rel="stylesheet" href="http://127.0.0.1:1/x.css"></head><body><p>y</p></body></html>'
    assert _through(page) == page
    linked = page.replace("<body>", "<style>p{color:red}</style><body>")
    assert 'href="http://127.0.0.1:1/x.css"' in _through(linked)


def test_mjml_is_inlined_only_where_its_author_wrote_rules() -> None:
    def compiled(head: str) -> str:
        column = "<mj-column><mj-text><p>x</p></mj-text></mj-column>"
        body = f"<mjml>{head}<mj-body><mj-section>{column}</mj-section></mj-body></mjml>"
        source = compilation.parse(f"---\ntemplate: a\nsubject: b\n---\n{body}", "a.mjml")
        return compilation.compile_source(source, []).html

    assert "<p>x</p>" in compiled("")
    assert re.search(r'<p style="[^"]*color: ?red', compiled("<mj-head><mj-style>p {color: red}</mj-style></mj-head>"))
