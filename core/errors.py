"""The errors that Kaskad raises on purpose.

KaskadError
├── InvalidInput        what was given cannot be used; `problems` says where and what to do
├── NotFound            the named thing does not exist
├── Conflict            the request contradicts what is already there
├── NotAllowed          the caller may not do this
│   └── NotSignedIn     the caller did not say who they are, or nobody knows them
├── Misconfigured       a setting is wrong; the operator has to act
└── Unavailable         a part we depend on does not answer; trying again later may help
    └── DatabaseUnavailable, TemporalUnavailable

No error here knows HTTP or the terminal; one handler at each edge translates.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with an input: where, what, and what to do about it."""

    message: str
    mend: str = ""
    file: str = ""
    line: int = 0
    column: int = 0
    path: str = ""

    def __str__(self) -> str:
        where = self.path
        if self.line:
            where = f"{self.file or 'line'}:{self.line}:{self.column}"
        text = f"{where}: {self.message}" if where else self.message
        return f"{text} ({self.mend})" if self.mend else text


class KaskadError(Exception):
    """Something Kaskad refuses or cannot do, said in words a person can act on."""


class InvalidInput(KaskadError):
    """What was given cannot be used."""

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = tuple(p if isinstance(p, Problem) else Problem(p) for p in problems)
        super().__init__("\n".join(str(p) for p in self.problems))


class NotFound(KaskadError):
    """The named thing does not exist."""


class Conflict(KaskadError):
    """The request contradicts what is already there."""


class NotAllowed(KaskadError):
    """The caller may not do this."""


class NotSignedIn(NotAllowed):
    """The caller did not say who they are, or nobody knows them."""


class Misconfigured(KaskadError):
    """A setting is wrong; the operator has to act."""


class Unavailable(KaskadError):
    """A part that Kaskad depends on does not answer; trying again later may help."""


class DatabaseUnavailable(Unavailable):
    """PostgreSQL does not answer."""


class TemporalUnavailable(Unavailable):
    """Temporal does not answer."""
