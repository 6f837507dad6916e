"""What people write back, compared with the answers that a journey waits for."""

import re

_AROUND = re.compile(r"^[\W_]+|[\W_]+$")
LIMIT = 100


def plain(text: str) -> str:
    """The first line that says something, in small letters and without what stands around its words.

    `Да!` and `да` are one answer, and so are `Yes.` and `  yes, `. At most LIMIT characters.
    """
    for line in text.splitlines():
        said = _AROUND.sub("", " ".join(line.split())).casefold()
        if said:
            return said[:LIMIT].rstrip()
    return ""
