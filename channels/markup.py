"""Marks for Jinja tags, so that MJML and HTML tools see plain words where tags stand.

MJML is XML of a kind: a `<` inside an expression is fatal to it, and a tag between two sections would be lost. Each
tag is swapped for a word made of ASCII letters and digits, and put back afterwards.
"""

import html
import re
import secrets
from html.parser import HTMLParser

from core.errors import InvalidInput, Problem

# Strings inside tags may hold the closing braces, so they are skipped over as a whole.
_INSIDE = r"(?:\"[^\"]*\"|'[^']*'|[^\"'])*?"
TAG = re.compile(rf"\{{\{{{_INSIDE}\}}\}}|\{{%{_INSIDE}%\}}|\{{#.*?#\}}", re.DOTALL)
_VOID = frozenset(
    ["area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"]
)
# Elements of MJML that lay out others: bare text between their children is lost.
_LAYOUT = frozenset(["mj-body", "mj-wrapper", "mj-section", "mj-group", "mj-column", "mj-hero"])
_KNOWN = _LAYOUT | {"mjml"}
_KNOWN |= {f"mj-{name}" for name in ("head", "attributes", "all", "class", "breakpoint", "font", "html-attributes")}
_KNOWN |= {f"mj-{name}" for name in ("html-attribute", "selector", "preview", "style", "title", "accordion", "button")}
_KNOWN |= {f"mj-accordion-{name}" for name in ("element", "title", "text")}
_KNOWN |= {f"mj-{name}" for name in ("carousel", "carousel-image", "divider", "image", "navbar", "navbar-link", "raw")}
_KNOWN |= {f"mj-{name}" for name in ("social", "social-element", "spacer", "table", "text")}


class Marks:
    """Swaps the Jinja tags of one text for marks and back. Marks cannot stand in the text: they hold a random part."""

    def __init__(self) -> None:
        self._salt = secrets.token_hex(4)
        self._tags: list[str] = []
        self.pattern = re.compile(rf"KJ{self._salt}x(\d+)x")

    def hide(self, source: str) -> str:
        """The text with a mark for each tag; lines keep their numbers as far as tags stand on one line."""
        return TAG.sub(lambda match: self.mark(match.group()), source)

    def mark(self, tag: str) -> str:
        """A new mark for a tag."""
        self._tags.append(tag)
        # The tag's line breaks stay behind the mark, so that later errors still name the right line.
        return f"KJ{self._salt}x{len(self._tags) - 1}x" + "\n" * tag.count("\n")

    def show(self, marked: str) -> str:
        """The text with its tags back."""
        return self.pattern.sub(lambda match: self._tags[int(match.group(1))], marked)


class _Walker(HTMLParser):
    """Walks over markup and keeps the open elements with their places."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self.open: list[tuple[str, int, int]] = []

    def handle_starttag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _VOID:
            self.open.append((tag, *self.getpos()))


class _Checker(_Walker):
    def __init__(self, file: str, first_line: int) -> None:
        super().__init__()
        self.file, self.first_line = file, first_line
        self.problems: list[Problem] = []

    def problem(self, message: str, mend: str, line: int = 0, column: int = 0) -> None:
        if not line:
            line, column = self.getpos()
        self.problems.append(Problem(message, mend, self.file, line + self.first_line - 1, column + 1))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._known(tag)
        super().handle_starttag(tag, attrs)

    def handle_startendtag(self, tag: str, _attrs: list[tuple[str, str | None]]) -> None:
        self._known(tag)

    def _known(self, tag: str) -> None:
        if tag == "mj-include":
            self.problem("mj-include would read other files", "put the part into this file")
        elif tag.startswith("mj-") and tag not in _KNOWN:
            self.problem(f"<{tag}> is no element of MJML", "see the list of elements in the MJML documentation")

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID:
            return
        if not self.open or self.open[-1][0] != tag:
            inner = (
                f"; <{self.open[-1][0]}> of line {self.open[-1][1] + self.first_line - 1} is open" if self.open else ""
            )
            self.problem(f"</{tag}> closes nothing here{inner}", "close elements in the order they were opened")
            while any(name == tag for name, _, _ in self.open) and self.open.pop()[0] != tag:
                pass
            return
        self.open.pop()

    def finish(self) -> None:
        self.close()
        for tag, line, column in self.open:
            self.problem(f"<{tag}> is never closed", f"add </{tag}>", line, column)


def check_mjml(marked: str, file: str, first_line: int) -> None:
    """Refuse MJML that the compiler would choke on without saying where.

    Raises:
        InvalidInput: unclosed, crossed or unknown elements, each with its line.
    """
    checker = _Checker(file, first_line)
    checker.feed(marked)
    checker.finish()
    if not re.match(r"\s*(<!--.*?-->\s*)*<mjml[\s>]", marked, re.DOTALL):
        checker.problems.insert(0, Problem("an MJML letter begins with <mjml>", "", file, first_line, 1))
    if checker.problems:
        raise InvalidInput(*checker.problems)


class _Wrapper(_Walker):
    """Finds the marks that stand bare between layout elements."""

    def __init__(self, marks: Marks) -> None:
        super().__init__()
        self.marks, self.places = marks, list[tuple[int, int, str]]()

    def handle_endtag(self, _tag: str) -> None:
        if self.open and _tag not in _VOID:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1][0] in _LAYOUT and self.marks.pattern.search(data):
            line, column = self.getpos()
            self.places.append((line, column, data))


def keep_bare_marks(marked: str, marks: Marks) -> str:
    """Put marks that stand between layout elements into mj-raw, which MJML carries over as it is."""
    wrapper = _Wrapper(marks)
    wrapper.feed(marked)
    wrapper.close()
    starts = [0, *(found.end() for found in re.finditer("\n", marked))]
    for line, column, data in reversed(wrapper.places):
        at = starts[line - 1] + column
        kept = marks.pattern.sub(lambda match: f"<mj-raw>{match.group()}</mj-raw>", data)
        marked = marked[:at] + kept + marked[at + len(data) :]
    return marked


_BLOCK = frozenset(["p", "div", "table", "tr", "ul", "ol", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "pre"])
_BLOCK |= {"blockquote", "section", "article", "header", "footer", "address"}
_SILENT = frozenset(["head", "style", "script", "title", "noscript"])


class _Text(HTMLParser):
    """Writes HTML as plain text: paragraphs apart, list items with dashes, links with their addresses."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.silent = 0
        self.links: list[tuple[str, int]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in _SILENT:
            self.silent += 1
        elif tag == "a":
            self.links.append((values.get("href") or "", len(self.parts)))
        elif tag == "img" and values.get("alt"):
            self.parts.append(str(values["alt"]))
        else:
            self._break(tag)

    def _break(self, tag: str) -> None:
        if tag == "br":
            self.parts.append("\n")
        elif tag == "li":
            self.parts.append("\n- ")
        elif tag in {"td", "th"}:
            self.parts.append(" ")
        elif tag in _BLOCK:
            self.parts.append("\n\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT:
            self.silent = max(0, self.silent - 1)
        elif tag == "a" and self.links:
            self._link(*self.links.pop())
        elif tag in _BLOCK:
            self.parts.append("\n\n")

    def _link(self, href: str, since: int) -> None:
        label = " ".join("".join(self.parts[since:]).split())
        if href and not href.startswith("#") and label != href.removeprefix("mailto:"):
            self.parts.append(f" ({href})" if label else href)

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.parts.append(re.sub(r"\s+", " ", data))


def text_of(marked_html: str) -> str:
    """Plain text for an HTML letter whose tags are hidden behind marks."""
    writer = _Text()
    writer.feed(marked_html)
    writer.close()
    lines = (re.sub(r"[ \u00a0\u200c\ufeff]+", " ", line).strip() for line in "".join(writer.parts).splitlines())
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


_HREF = re.compile(r"(<a\b[^>]*?\shref\s*=\s*)(\"[^\"]*\"|'[^']*')", re.IGNORECASE | re.DOTALL)


def track_links(marked_html: str, marks: Marks) -> str:
    """Put the addresses of links through the `track` filter; those that unsubscribe and other schemes stay.

    The address goes through a block of its own, so that it may hold any tags. Whether what comes out is http(s) is
    looked at again when the letter is rendered.
    """

    def track(match: re.Match[str]) -> str:
        quote, address = match.group(2)[0], match.group(2)[1:-1]
        shown = marks.show(address)
        if re.search(r"\b(unsubscribe|preferences|view|confirm)_url\b", shown):
            return match.group()
        bare = html.unescape(address).strip().lower()
        if not (bare.startswith(("http://", "https://")) or marks.pattern.match(address.strip())):
            return match.group()
        begin, end = marks.mark("{% filter track %}"), marks.mark("{% endfilter %}")
        return f"{match.group(1)}{quote}{begin}{address}{end}{quote}"

    return _HREF.sub(track, marked_html)
