"""A mailbox of somebody's mail server that is read for bounces and replies: IMAP (RFC 3501) or POP3 (RFC 1939).

    imaps://USER:PASSWORD@HOST:PORT/FOLDER?then=seen      or imap+starttls://, imap:// (loopback only)
    pop3s://USER:PASSWORD@HOST:PORT                       or pop3+starttls://, pop3:// (loopback only)

`then` says what becomes of a letter that was taken: `seen` (IMAP's default; people may read it), `delete` (POP's only
way), or `move:FOLDER`. It happens after the reports are committed: a crash between makes the letter come again, which
changes nothing. Of a letter that is too big only the beginning is read, and it is never deleted. The standard library's
clients run in a thread.
"""

import imaplib
import poplib
import re
import ssl
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import SecretStr

from core.addresses import is_loopback
from core.errors import InvalidInput, KaskadError, Misconfigured, Unavailable

BATCH = 100
"""Letters in one look."""
HEAD = 64 * 1024
"""Bytes that are read of a letter which is too big: the headers, and what a reply or a notification begins with."""
_HEAD_LINES = HEAD // 80
_TIMEOUT = 60.0
# The standard library gives up over lines of 2,048 bytes, which some programs write; what fits a line there is held in
# memory.
poplib._MAXLINE = 1_000_000  # type: ignore[attr-defined]
_PORTS = {
    "imaps": 993,
    "imap+starttls": 143,
    "imap": 143,
    "pop3s": 995,
    "pop3+starttls": 110,
    "pop3": 110,
}


@dataclass(frozen=True, slots=True)
class MailboxUrl:
    """Where a mailbox is, and what becomes of letters that were taken."""

    scheme: str
    host: str
    port: int
    user: str
    password: SecretStr
    folder: str
    then: str
    ca: str | None = None

    @classmethod
    def of(cls, url: str) -> "MailboxUrl":
        """Read a URL.

        Raises:
            InvalidInput: it cannot be used; the password is not shown.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InvalidInput(f"the mailbox's URL cannot be read: {error}") from None
        if parts.scheme not in _PORTS or not parts.hostname or not parts.username:
            raise InvalidInput(f"a mailbox is SCHEME://USER:PASSWORD@HOST; SCHEME is one of {', '.join(_PORTS)}")
        if parts.scheme in ("imap", "pop3") and not is_loopback(parts.hostname):
            raise InvalidInput(f"the password would travel unencrypted: use {parts.scheme}s://")
        is_pop = parts.scheme.startswith("pop3")
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        then, ca = options.pop("then", "delete" if is_pop else "seen"), options.pop("ca", None)
        if options or not (then in ("delete",) or (not is_pop and re.fullmatch(r"seen|move:[^\r\n\"\\]+", then))):
            raise InvalidInput("a mailbox's URL takes then=seen, delete or move:FOLDER (POP: delete only), and ca=FILE")
        folder = unquote(parts.path.lstrip("/")) or "INBOX"
        if re.search(r'[\r\n"\\]', folder):
            raise InvalidInput("the mailbox's folder has a character that cannot stand there")
        user, password = unquote(parts.username), SecretStr(unquote(parts.password or ""))
        return cls(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], user, password, folder, then, ca)

    def tls(self) -> ssl.SSLContext:
        """The rules of encryption: as for sending."""
        context = ssl.create_default_context(cafile=self.ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}/{self.folder}"


@dataclass(frozen=True, slots=True)
class Found:
    """A letter that lies in a mailbox; of one that is too big, its beginning."""

    name: str
    """The mailbox's, the same in every session."""
    number: str
    """By which this session knows it."""
    source: bytes
    whole: bool


class Stuck(Unavailable):
    """A letter that cannot be fetched, after which the session is of no more use."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"the letter {name} cannot be fetched: {why}")
        self.name = name


class Session(Protocol):
    """An open mailbox."""

    def letters(self, size_limit: int, passed_over: Collection[str]) -> Iterator[Found]:
        """The next letters, at most BATCH, but for those of these names.

        Raises:
            Stuck: over one of them.
        """
        ...

    def done(self, letters: Sequence[Found]) -> None:
        """Mark, move or delete letters that were taken."""
        ...


@contextmanager
def opened(url: MailboxUrl) -> Iterator[Session]:
    """Sign in, and out again. Blocks: call it in a thread.

    Raises:
        Misconfigured: the server refuses user, password, folder or the encryption.
        Unavailable: it does not answer.
    """
    with _in_our_words(url):
        session: _Imap | _Pop = _Pop(url) if url.scheme.startswith("pop3") else _Imap(url)
        try:
            yield session
        finally:
            session.close()


def check(url: MailboxUrl) -> None:
    """See whether the mailbox can be read. Blocks: call it in a thread. Raises as `opened` does."""
    with opened(url):
        pass


@contextmanager
def _in_our_words(url: MailboxUrl) -> Iterator[None]:
    try:
        yield
    except KaskadError:
        raise
    except ssl.SSLCertVerificationError as error:
        raise Misconfigured(f"{url}: the certificate cannot be trusted: {error.verify_message}") from error
    except (imaplib.IMAP4.abort, OSError, EOFError) as error:
        raise Unavailable(f"{url}: {error}") from error
    except (imaplib.IMAP4.error, poplib.error_proto) as error:
        raise Misconfigured(f"{url}: {error}") from error


class _Imap:
    """IMAP4rev1; letters by UID, those that nobody has read."""

    def __init__(self, url: MailboxUrl) -> None:
        self._url = url
        if url.scheme == "imaps":
            self._box: imaplib.IMAP4 = imaplib.IMAP4_SSL(url.host, url.port, ssl_context=url.tls(), timeout=_TIMEOUT)
        else:
            self._box = imaplib.IMAP4(url.host, url.port, timeout=_TIMEOUT)
        try:
            if url.scheme == "imap+starttls":
                self._box.starttls(url.tls())
            self._box.login(url.user, url.password.get_secret_value())
            said = self._expect(*self._box.capability())  # after the sign-in: servers tell more then
            self._abilities = frozenset(
                b" ".join(one for one in said if isinstance(one, bytes)).decode().upper().split()
            )
            self._expect(*self._box.select(f'"{url.folder}"'))
        except BaseException:
            with suppress(OSError):  # encrypting that failed has closed it already; why is what counts
                self._box.shutdown()
            raise

    def letters(self, size_limit: int, passed_over: Collection[str]) -> Iterator[Found]:
        """Unread letters, oldest first."""
        found = self._expect(*self._box.uid("SEARCH", "UNSEEN"))
        names = found[0].decode().split() if found and isinstance(found[0], bytes) else []
        for name in [one for one in names if one not in passed_over][:BATCH]:
            [size] = self._expect(*self._box.uid("FETCH", name, "(RFC822.SIZE)"))[:1]
            match = re.search(rb"RFC822\.SIZE (\d+)", size if isinstance(size, bytes) else b"")
            if match is None:
                continue  # gone meanwhile
            whole = int(match[1]) <= size_limit
            wanted = "(BODY.PEEK[])" if whole else f"(BODY.PEEK[]<0.{HEAD}>)"
            for part in self._expect(*self._box.uid("FETCH", name, wanted)):
                if isinstance(part, tuple):
                    yield Found(name, name, part[1], whole)
                    break

    def done(self, letters: Sequence[Found]) -> None:
        """See `then` above."""
        gone = [one.number for one in letters if self._url.then != "seen" and (one.whole or self._moves)]
        for letter in letters:
            # First: a letter that has been read does not come again, so nothing is copied twice.
            self._expect(*self._box.uid("STORE", letter.number, "+FLAGS.SILENT", r"(\Seen)"))
        if self._moves and "MOVE" in self._abilities:
            for number in gone:
                self._expect(*self._box.uid("MOVE", number, f'"{self._folder}"'))
        else:
            for number in gone:
                self._take_out(number)
            if gone and "UIDPLUS" not in self._abilities:
                self._expect(*self._box.expunge())

    def _take_out(self, number: str) -> None:
        if self._moves:
            self._expect(*self._box.uid("COPY", number, f'"{self._folder}"'))
        self._expect(*self._box.uid("STORE", number, "+FLAGS.SILENT", r"(\Deleted)"))
        if "UIDPLUS" in self._abilities:  # RFC 4315: this one, and not what others have marked
            self._expect(*self._box.uid("EXPUNGE", number))

    @property
    def _moves(self) -> bool:
        return self._url.then.startswith("move:")

    @property
    def _folder(self) -> str:
        return self._url.then.removeprefix("move:")

    def _expect(self, status: str, data: Sequence[object]) -> list[bytes | tuple[bytes, bytes] | None]:
        if status != "OK":
            words = b" ".join(one for one in data if isinstance(one, bytes)).decode("utf-8", "replace")
            raise Misconfigured(f"{self._url}: the server says {status} {words}")
        return [one for one in data if one is None or isinstance(one, bytes | tuple)]

    def close(self) -> None:
        with suppress(imaplib.IMAP4.error, OSError):
            self._box.logout()


class _Pop:
    """POP3: letters are deleted when the session ends well."""

    def __init__(self, url: MailboxUrl) -> None:
        self._stuck = False
        if url.scheme == "pop3s":
            self._box: poplib.POP3 = poplib.POP3_SSL(url.host, url.port, context=url.tls(), timeout=_TIMEOUT)
        else:
            self._box = poplib.POP3(url.host, url.port, timeout=_TIMEOUT)
        try:
            if url.scheme == "pop3+starttls":
                self._box.stls(url.tls())
            self._box.user(url.user)
            self._box.pass_(url.password.get_secret_value())
            self._names = self._named(url)
        except BaseException:
            with suppress(OSError):  # see above
                self._box.close()
            raise

    def _named(self, url: MailboxUrl) -> dict[str, str]:
        """The letters' names by their numbers. Without UIDL (RFC 1939 leaves it to the server) one that cannot be taken
        would have no name to be passed over by, and hold up all that come after it."""
        try:
            return _listed(self._box.uidl()[1])
        except poplib.error_proto as error:
            mend = "read the mailbox by IMAP, or let its mail be forwarded to one whose server has it"
            raise Misconfigured(f"{url}: the server has no UIDL ({error}); {mend}") from error

    def letters(self, size_limit: int, passed_over: Collection[str]) -> Iterator[Found]:
        """The oldest letters."""
        sizes, names = _listed(self._box.list()[1]), self._names
        waiting = [number for number in sizes if number in names and names[number] not in passed_over]
        for number in waiting[:BATCH]:
            name, whole = names[number], int(sizes[number]) <= size_limit
            try:
                fetched = self._box.retr(int(number)) if whole else self._box.top(int(number), _HEAD_LINES)
            except poplib.error_proto as error:
                self._stuck = True  # what the server says next belongs to this letter still
                self._box.close()
                raise Stuck(name, str(error)) from error
            yield Found(name, number, b"\r\n".join(fetched[1]) + b"\r\n", whole)

    def done(self, letters: Sequence[Found]) -> None:
        """Delete them; it counts when the session is closed."""
        for letter in letters:
            if letter.whole and not self._stuck:
                self._box.dele(int(letter.number))

    def close(self) -> None:
        with suppress(poplib.error_proto, OSError):
            if not self._stuck:
                self._box.quit()


def _listed(lines: Sequence[bytes]) -> dict[str, str]:
    """What LIST and UIDL say of each letter, by its number in this session."""
    pairs = (line.decode("latin-1").split()[:2] for line in lines)
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}
