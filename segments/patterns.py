"""Texts compared with patterns: regular expressions and LIKE, in Python and in PostgreSQL with one meaning.

A regular expression is read by Python's own parser, checked, and written anew in a form that both engines understand
alike: character classes become lists of characters, anchors mean the ends of the text, and what one engine has and the
other not is refused. Matching cannot explode: back-references and looking around are refused, as are repetitions
inside repetitions; the size after unrolling is bounded. In Python, RE2 matches in linear time.
"""

import importlib
import re
import warnings
from functools import lru_cache
from typing import Any, Literal

import re2

LENGTH_LIMIT = 200
SIZE_LIMIT = 1000
"""Characters and classes of a pattern, each counted as often as it may be repeated."""
REPEAT_LIMIT = 100
WILDCARD_LIMIT = 10
_RANGE_LIMIT = 2000
_MEND = "write a simpler one, or use contains, starts, ends or like"

# The parser has no public name. What it gives has not changed since Python 3.11, and a test covers every token.
_parser: Any = importlib.import_module("re._parser")
_constants: Any = importlib.import_module("re._constants")

_LETTERS = (  # Latin, Greek and Cyrillic
    "A-Za-z0-9_\u00aa\u00b5\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u02af"
    "\u0370-\u0373\u0376-\u0377\u037b-\u037d\u0386\u0388-\u0481\u048a-\u052f"
)
_CLASSES = {
    _constants.CATEGORY_DIGIT: (False, "0-9"),
    _constants.CATEGORY_NOT_DIGIT: (True, "0-9"),
    _constants.CATEGORY_SPACE: (False, " \t\n\r\f\v"),
    _constants.CATEGORY_NOT_SPACE: (True, " \t\n\r\f\v"),
    _constants.CATEGORY_WORD: (False, _LETTERS),
    _constants.CATEGORY_NOT_WORD: (True, _LETTERS),
}
_STARTS = {_constants.AT_BEGINNING, _constants.AT_BEGINNING_STRING}
_ENDS = {_constants.AT_END, _constants.AT_END_STRING}
_ENGINE_ENDS = {"postgres": r"\Z", "re2": r"\z"}

Engine = Literal["postgres", "re2"]


class Refused(ValueError):
    """The pattern cannot be used; the message says why."""


def wrong_regexp(pattern: str) -> tuple[str, str] | None:
    """What is wrong with a regular expression, and the mend; None if it can be used."""
    try:
        _matcher(pattern)
        regexp(pattern, "postgres")
    except Refused as refused:
        return str(refused), _MEND
    return None


def wrong_like(pattern: str) -> tuple[str, str] | None:
    r"""What is wrong with a LIKE pattern (`%` any text, `_` one character, `\` takes the next one as it is)."""
    if pattern.count("%") > WILDCARD_LIMIT:
        return f"a pattern with more than {WILDCARD_LIMIT} %", "leave some out, or use contains"
    if re.fullmatch(r"(?:[^\\]|\\.)*", pattern, re.DOTALL) is None:
        return r"a pattern that ends with a lone \ ", r"write \\ for the character itself"
    return None


def matches(pattern: str, text: str) -> bool:
    """Whether a checked regular expression is found in the text."""
    return _matcher(pattern).search(text) is not None


def is_like(pattern: str, text: str) -> bool:
    """Whether the whole text fits a checked LIKE pattern."""
    return _like(pattern).search(text) is not None


@lru_cache(maxsize=1024)
def regexp(pattern: str, engine: Engine) -> str:
    """The pattern in the form that both engines understand alike.

    Raises:
        Refused: it cannot be used.
    """
    if len(pattern) > LENGTH_LIMIT:
        raise Refused(f"a regular expression of more than {LENGTH_LIMIT} characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parsed = _parser.parse(pattern)
    except (re.error, Warning, RecursionError, OverflowError) as error:
        raise Refused(f"not a regular expression: {error}") from None
    flags = parsed.state.flags & ~re.UNICODE
    if flags & ~re.IGNORECASE:
        raise Refused("a regular expression with a flag other than (?i)")
    written = _Writer(engine, any_case=bool(flags & re.IGNORECASE))
    text = written.sequence(parsed, repeated=False, times=1)
    return f"(?:{text})"


@lru_cache(maxsize=1024)
def _matcher(pattern: str) -> Any:
    return _compiled(regexp(pattern, "re2"))


@lru_cache(maxsize=1024)
def _like(pattern: str) -> Any:
    parts, escaped = [], False
    for letter in pattern:
        if escaped or letter not in "%_\\":
            parts.append(re2.escape(letter))
            escaped = False
        elif letter == "\\":
            escaped = True
        else:
            parts.append(r"(?s:.*)" if letter == "%" else r"(?s:.)")
    return _compiled(rf"\A{''.join(parts)}\z")


def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise Refused(f"not a regular expression: {error}") from None


class _Writer:
    """Writes what the parser read, and refuses what must not be."""

    def __init__(self, engine: Engine, *, any_case: bool) -> None:
        self._engine, self._any_case, self._size = engine, any_case, 0

    def sequence(self, parts: Any, *, repeated: bool, times: int) -> str:
        """Parts that stand one behind the other, inside a repetition without end or not, unrolled so many times."""
        return "".join(self._part(name, value, repeated=repeated, times=times) for name, value in parts)

    def _part(self, name: Any, value: Any, *, repeated: bool, times: int) -> str:  # noqa: PLR0911 - one line a token
        match str(name):
            case "LITERAL":
                return self._count(times, self._literal(value))
            case "NOT_LITERAL":
                return self._count(times, f"[^{self._class_literal(value)}]")
            case "ANY":
                return self._count(times, "[^\n]")
            case "IN":
                return self._count(times, self._class(value))
            case "BRANCH":
                ways = [self.sequence(way, repeated=repeated, times=times) for way in value[1]]
                return f"(?:{'|'.join(ways)})"
            case "SUBPATTERN":
                _, on, off, inside = value
                if on or off:
                    raise Refused("a regular expression that changes its flags in the middle")
                return f"(?:{self.sequence(inside, repeated=repeated, times=times)})"
            case "MAX_REPEAT" | "MIN_REPEAT":
                return self._repeat(value, repeated=repeated, times=times)
            case "AT":
                return self._anchor(value, inside=repeated or times > 1)
        raise Refused("a regular expression that refers back, looks around or holds on")

    def _repeat(self, value: Any, *, repeated: bool, times: int) -> str:
        least, most, inside = value
        endless = most is _constants.MAXREPEAT
        if endless and repeated:
            raise Refused("a regular expression with a repetition inside a repetition, which can explode")
        if least > REPEAT_LIMIT or (not endless and most > REPEAT_LIMIT):
            raise Refused(f"a regular expression that counts to more than {REPEAT_LIMIT}")
        unrolled = times * max(1, least if endless else most)
        if unrolled > SIZE_LIMIT:
            raise Refused("a regular expression that counts inside of counting, which can explode")
        text = self.sequence(inside, repeated=repeated or endless, times=max(2, unrolled))
        if not text:
            return ""
        if (least, endless) == (0, True):
            return f"(?:{text})*"
        return f"(?:{text}){{{least},{'' if endless else most}}}"

    def _anchor(self, where: Any, *, inside: bool) -> str:
        if inside:
            raise Refused("a regular expression that repeats ^ or $")
        if where in _STARTS:
            return r"\A"
        if where in _ENDS:
            return _ENGINE_ENDS[self._engine]
        raise Refused(r"a regular expression with \b or \B")

    def _count(self, times: int, text: str) -> str:
        self._size += times
        if self._size > SIZE_LIMIT:
            raise Refused("a regular expression that is too large once its counts are unrolled")
        return text

    def _literal(self, code: int) -> str:
        cases = _cases(code) if self._any_case else [code]
        return _escaped(code) if len(cases) == 1 else f"[{''.join(map(_escaped, cases))}]"

    def _class_literal(self, code: int) -> str:
        return "".join(map(_escaped, _cases(code) if self._any_case else [code]))

    def _class(self, items: Any) -> str:
        if items[0][0] is _constants.NEGATE:
            return f"[^{''.join(self._class_item(name, value) for name, value in items[1:])}]"
        # Neither engine has a class of what is not in another class among others: they become ways to go.
        denied = [value for name, value in items if name is _constants.CATEGORY and _CLASSES[value][0]]
        plain = [
            self._class_item(name, value)
            for name, value in items
            if not (name is _constants.CATEGORY and value in denied)
        ]
        ways = [f"[{''.join(plain)}]"] if plain else []
        ways += [f"[^{_CLASSES[value][1]}]" for value in denied]
        return ways[0] if len(ways) == 1 else f"(?:{'|'.join(ways)})"

    def _class_item(self, name: Any, value: Any) -> str:
        match str(name):
            case "LITERAL":
                return self._class_literal(value)
            case "RANGE":
                return self._range(*value)
        negated, inside = _CLASSES[value]
        if negated:
            raise Refused(r"a regular expression with \D, \W or \S inside [^…]")
        return inside

    def _range(self, low: int, high: int) -> str:
        plain = f"{_escaped(low)}-{_escaped(high)}"
        if not self._any_case:
            return plain
        if high - low > _RANGE_LIMIT:
            raise Refused("a regular expression with (?i) and a very long range")
        others = {case for code in range(low, high + 1) for case in _cases(code)} - set(range(low, high + 1))
        return plain + "".join(map(_escaped, sorted(others)))


def _cases(code: int) -> list[int]:
    """A letter and its other case, where that is one letter."""
    letter = chr(code)
    return sorted({code, *(ord(one) for one in (letter.lower(), letter.upper()) if len(one) == 1)})


def _escaped(code: int) -> str:
    """A character that means itself, in brackets and outside, in both engines."""
    if code == 0 or 0xD800 <= code <= 0xDFFF:
        raise Refused("a regular expression with a character that cannot be stored")
    letter = chr(code)
    special = code < 128 and letter.isprintable() and not (letter.isalnum() or letter in " _")
    return f"\\{letter}" if special else letter
