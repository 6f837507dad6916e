"""A mailbox of somebody's mail server that is read for bounces and replies: IMAP (RFC 3501) or POP3 (RFC 1939).

    imaps://USER:PASSWORD@HOST:PORT/FOLDER?then=seen      or imap+starttls://, imap:// (loopback only)
    pop3s://USER:PASSWORD@HOST:PORT                       or pop3+starttls://, pop3:// (loopback only)

`then` says what becomes of a letter that was taken: `seen` (IMAP's default; people may read it), `delete` (POP's only
way), or `move:FOLDER`. It happens after the reports are committed: a crash between makes the letter come again, which
changes nothing. The standard library's clients run in a thread.
"""

import imaplib
import poplib
import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import SecretStr

from core.addresses import is_loopback
from core.errors import InvalidInput, KaskadError, Misconfigured, Unavailable

BATCH = 100
"""Letters in one look."""
_TIMEOUT = 60.0
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


class Session(Protocol):
    """An open mailbox."""

    def letters(self, size_limit: int) -> Iterator[tuple[str, bytes | None]]:
        """The next letters by their names; None in the place of one that is too big."""
        ...

    def done(self, names: list[str]) -> None:
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
            self._expect(*self._box.select(f'"{url.folder}"'))
        except BaseException:
            self._box.shutdown()
            raise

    def letters(self, size_limit: int) -> Iterator[tuple[str, bytes | None]]:
        """Unread letters, oldest first."""
        found = self._expect(*self._box.uid("SEARCH", "UNSEEN"))
        numbers = found[0].split()[:BATCH] if found and isinstance(found[0], bytes) else []
        for number in numbers:
            name = number.decode()
            [size] = self._expect(*self._box.uid("FETCH", name, "(RFC822.SIZE)"))[:1]
            match = re.search(rb"RFC822\.SIZE (\d+)", size if isinstance(size, bytes) else b"")
            if match is None:
                continue  # gone meanwhile
            if int(match[1]) > size_limit:
                yield name, None
                continue
            for part in self._expect(*self._box.uid("FETCH", name, "(BODY.PEEK[])")):
                if isinstance(part, tuple):
                    yield name, part[1]
                    break

    def done(self, names: list[str]) -> None:
        """See `then` above."""
        for name in names:
            if self._url.then.startswith("move:"):
                folder = self._url.then.removeprefix("move:")
                self._expect(*self._box.uid("COPY", name, f'"{folder}"'))
            flags = r"(\Seen)" if self._url.then == "seen" else r"(\Seen \Deleted)"
            self._expect(*self._box.uid("STORE", name, "+FLAGS.SILENT", flags))
        if names and self._url.then != "seen":
            self._expect(*self._box.expunge())

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
        if url.scheme == "pop3s":
            self._box: poplib.POP3 = poplib.POP3_SSL(url.host, url.port, context=url.tls(), timeout=_TIMEOUT)
        else:
            self._box = poplib.POP3(url.host, url.port, timeout=_TIMEOUT)
        try:
            if url.scheme == "pop3+starttls":
                self._box.stls(url.tls())
            self._box.user(url.user)
            self._box.pass_(url.password.get_secret_value())
        except BaseException:
            self._box.close()
            raise

    def letters(self, size_limit: int) -> Iterator[tuple[str, bytes | None]]:
        """The oldest letters."""
        for line in self._box.list()[1][:BATCH]:
            name, size = line.decode().split()[:2]
            if int(size) > size_limit:
                yield name, None
            else:
                yield name, b"\r\n".join(self._box.retr(int(name))[1]) + b"\r\n"

    def done(self, names: list[str]) -> None:
        """Delete them; it counts when the session is closed."""
        for name in names:
            self._box.dele(int(name))

    def close(self) -> None:
        with suppress(poplib.error_proto, OSError):
            self._box.quit()
