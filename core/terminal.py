"""Where commands print to, and how they fail: in plain words. It imports little, so that `kaskad --help` is quick."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from core.errors import InvalidInput, KaskadError

console = Console()
"""Where results go."""
complaints = Console(stderr=True)
"""Where errors and warnings go."""


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
        complaints.print(f"[bold red]error:[/] {escape(line)}", soft_wrap=True, highlight=False)
    if len(lines) > 1:
        complaints.print(f"{len(lines)} problems", highlight=False)
