"""The reference of criteria, as Markdown, from the registry and the tested examples: `docs/criteria-reference.md`."""

from segments.criteria.counting import KEYS as COUNTED
from segments.criteria.parsing import DEPTH_LIMIT, NODE_LIMIT, TREE_KEYS
from segments.criteria.registry import FAMILIES
from segments.examples import CRITERIA, OPERATORS, SAME, Section
from segments.operands import LIST_LIMIT, TEXT_LIMIT
from segments.operands import OPERATORS as KNOWN

_INTRODUCTION = """\
# Reference of criteria

Written by `make reference` from the models that read criteria and from examples that a test runs.
{criteria} criteria and {operators} operators, {examples} examples.

Criteria are data, in YAML or JSON: a mapping from what is asked about to a test. The same ones make up segments and
serve journeys in `where`, `if`, `choose` and `until`. A test is a value, a list of values, or a mapping of operators
to operands, all of which must hold. Wherever rows of a contact are asked about (events, pages, sessions, messages,
journeys), {counted} say how many must be there and when they came about: `count: 3`, `count: {{gte: 3}}`; `within:
30d`; `when: last month`, `when: {{after: 2026-05-01}}`.

A missing value passes `exists: false`, `empty: true` and the denials, `ne` and all that begin with `not_`: they hold
exactly where what they deny does not. A value of another type passes no test and does no harm.

What cannot be is refused when it is published, with file, line, column and the mend: an unknown name, a test that
does not fit an attribute's type, a regular expression that can explode, more than {depth} levels or {nodes} criteria,
lists of more than {values:,} values, texts of more than {letters:,} characters.
"""


def markdown() -> str:
    """The whole page."""
    count = sum(len(section.examples) for section in (*OPERATORS, *CRITERIA, SAME))
    keys = [*TREE_KEYS, *(key for family in FAMILIES for key in family.KEYS)]
    introduction = _INTRODUCTION.format(
        criteria=len(keys) + 2,  # and any attribute, of contacts and of companies
        operators=len(KNOWN),
        examples=count,
        counted=", ".join(f"`{key}`" for key in COUNTED[:-1]) + f" and `{COUNTED[-1]}`",
        depth=DEPTH_LIMIT,
        nodes=NODE_LIMIT,
        values=LIST_LIMIT,
        letters=TEXT_LIMIT,
    )
    blocks = [introduction, "## Criteria\n", *map(_section, CRITERIA), "## Operators\n"]
    blocks += map(_section, (*OPERATORS, SAME))
    return "\n".join(blocks)


def _section(section: Section) -> str:
    keys = ", ".join(f"`{key}`" for key in section.keys)
    lines = [
        f"### {section.title}\n",
        f"{keys}. {section.text}".strip() + "\n",
        "| example | holds for whom |",
        "|---|---|",
    ]
    lines += [f"| `{_cell(example)}` | {_cell(meaning)} |" for example, meaning in section.examples]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print(markdown(), end="")
