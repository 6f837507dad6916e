"""Style sheets written into the elements they match, for mail programs that drop `<style>`."""

import re
from collections import Counter

import css_inline

from channels.markup import Marks

_PIECES = re.compile(
    r"(<(style|title|script|textarea)\b.*?</\2\s*>|<!--.*?-->|<[^>]*>)", re.DOTALL | re.IGNORECASE
)  # what is no text
_KEPT = re.compile(r"<!--kept:(\w+)-->")
# Pages from elsewhere are not fetched; media queries and :hover stay in the style sheet, which is kept.
_INLINER = css_inline.CSSInliner(load_remote_stylesheets=False, keep_style_tags=True, keep_link_tags=True)


def inlined(marked_html: str, marks: Marks) -> str:
    """A page with its style sheets inlined. Marks keep their places: between rows of a table they travel as comments.

    A page whose marks would not all come back, because one stands among attributes or in a style sheet's rule, is
    left as it is.
    """
    if "<style" not in marked_html.lower():
        return marked_html
    pieces = _PIECES.split(marked_html)
    # split() gives text, piece, the piece's name, text …
    texts = [marks.pattern.sub(lambda mark: f"<!--kept:{mark.group()}-->", text) for text in pieces[::3]]
    page = "".join(text + (piece or "") for text, piece in zip(texts, [*pieces[1::3], ""], strict=True))
    try:
        done = _INLINER.inline(page)
    except css_inline.InlineError:
        return marked_html
    if "<tbody" not in marked_html.lower():
        done = done.replace("<tbody>", "").replace("</tbody>", "")  # the parser's own, around loops over rows
    done = _KEPT.sub(lambda match: match.group(1), done)
    whole = Counter(marks.pattern.findall(done)) == Counter(marks.pattern.findall(marked_html))
    return done if whole else marked_html
