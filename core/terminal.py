"""Where commands print to, and how they fail: in plain words. It imports little, so that `kaskad --help` is quick.

What strangers wrote (the properties of an event, the subject of a letter) may hold what steers a terminal:
its title, its colours, what stands on lines above, even what is typed next. None of them reaches one from here.
"""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.segment import Segment

from core.errors import InvalidInput, KaskadError

_BIDI = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_STEERING: dict[int, int | str] = {
    **{code: 0x2400 + code for code in range(0x20) if chr(code) not in "\n\t"},  # C0, by their pictures: ␛
    0x7F: 0x2421,
    # C1, marks that turn the direction of writing, and halves of characters, which cannot be written at all
    **dict.fromkeys([*range(0x80, 0xA0), *_BIDI, *range(0xD800, 0xE000)], "\N{REPLACEMENT CHARACTER}"),
}
_BREAKING: dict[int, str] = {0x09: " ", **dict.fromkeys([0x0A, 0x2028, 0x2029], "\N{SYMBOL FOR NEWLINE}")}


class SafeConsole(Console):
    """A console that shows characters which steer a terminal as signs, wherever in a table or line they stand."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The pieces that something is made of; what rich itself says to the terminal is kept apart from their text."""
        for piece in super().render(renderable, options):
            yield piece if piece.control else Segment(harmless(piece.text), piece.style)


console = SafeConsole()
"""Where results go."""
complaints = SafeConsole(stderr=True)
"""Where errors and warnings go."""


def harmless(text: str) -> str:
    """A text of strangers with signs for what would steer a terminal; its lines stay."""
    return text.translate(_STEERING)


def one_line(text: str) -> str:
    """A text of strangers for a place within a line, which it cannot leave."""
    return harmless(text.translate(_BREAKING))


def write(text: str) -> None:
    """Print a text without any layout: to a file or pipe exactly as it is, to a terminal without what steers it."""
    sys.stdout.write(harmless(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


@contextmanager
def plain_errors() -> Iterator[None]:
    """Say what Kaskad refuses in words, without a traceback, and exit with 1; Ctrl-C exits with 130."""
    try:
        yield
    except KaskadError as error:
        complain(error)
        raise SystemExit(1) from error
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def complain(error: KaskadError) -> None:
    """Print an error with all its problems, one a line, to standard error."""
    lines = [str(problem) for problem in error.problems] if isinstance(error, InvalidInput) else [str(error)]
    for line in lines:
        complaints.print(f"[bold red]error:[/] {escape(one_line(line))}", soft_wrap=True, highlight=False)
    if len(lines) > 1:
        complaints.print(f"{len(lines)} problems", highlight=False)
