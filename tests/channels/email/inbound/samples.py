"""Letters as other servers and people write them, in their forms, about addresses of ours."""

from collections.abc import Sequence
from datetime import UTC, datetime

from channels.email.inbound import Incoming

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)


def letter(source: str, *recipients: str) -> Incoming:
    """A sample as it comes over the wire."""
    return Incoming(source.replace("\n", "\r\n").encode(), AT, recipients)


def notification(
    to: str, fields: Sequence[tuple[str, str]], words: str = "This is the mail system.", more: str = ""
) -> str:
    """A delivery status notification in Postfix' form."""
    block = "\n".join(f"{name}: {value}" for name, value in fields)
    return f"""Return-Path: <>
From: MAILER-DAEMON@mx.example.net (Mail Delivery System)
To: {to}
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
Message-Id: <20261123.4711@mx.example.net>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
\tboundary="X4711"

This is a MIME-encapsulated message.

--X4711
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

{words}

--X4711
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net
X-Postfix-Queue-ID: 4711
Arrival-Date: Mon, 23 Nov 2026 11:59:58 +0000 (UTC)

{block}
{more}
--X4711
Content-Type: text/rfc822-headers

From: Kaskad <hello@example.com>
To: anna@example.net
Subject: Hi

--X4711--
"""


def failed(to: str, status: str = "5.1.1", words: str = "550 5.1.1 User unknown", action: str = "failed") -> str:
    """A notification about one recipient."""
    return notification(
        to,
        [
            ("Final-Recipient", "rfc822; anna@example.net"),
            ("Original-Recipient", "rfc822;Anna@example.net"),
            ("Action", action),
            ("Status", status),
            ("Remote-MTA", "dns; mx.example.net"),
            ("Diagnostic-Code", f"smtp; {words}"),
        ],
    )


def feedback(kind: str, hints: str = "", headers: str = "") -> str:
    """A feedback report in the form of RFC 5965, appendix B.2; `hints` among its fields, `headers` in the letter."""
    return f"""From: <abusedesk@example.net>
Date: Mon, 23 Nov 2026 12:00:00 +0000
Subject: FW: Earn money
To: <abuse@example.com>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=feedback-report;
     boundary="part1_13d.2e68ed54_boundary"

--part1_13d.2e68ed54_boundary
Content-Type: text/plain; charset="US-ASCII"
Content-Transfer-Encoding: 7bit

This is an email abuse report for an email message received from IP 192.0.2.1.

--part1_13d.2e68ed54_boundary
Content-Type: message/feedback-report

Feedback-Type: {kind}
User-Agent: SomeGenerator/1.0
Version: 1
{hints}Received-Date: Mon, 23 Nov 2026 11:00:00 +0000
Source-IP: 192.0.2.1

--part1_13d.2e68ed54_boundary
Content-Type: message/rfc822
Content-Disposition: inline

From: <hello@example.com>
{headers}To: <Undisclosed Recipients>
Subject: Earn money
MIME-Version: 1.0
Content-type: text/plain
Message-ID: 8787KJKJ3K4J3K4J3K4J3.mail@example.com

Spam Spam Spam
--part1_13d.2e68ed54_boundary--
"""


EXIM = """Return-path: <>
X-Failed-Recipients: anna@example.net
Auto-Submitted: auto-replied
From: Mail Delivery System <Mailer-Daemon@mx.example.org>
To: {to}
Subject: Mail delivery failed: returning message to sender
Message-Id: <E1abc-0001@mx.example.org>

This message was created automatically by mail delivery software.

A message that you sent could not be delivered to one or more of its
recipients. This is a permanent error. The following address(es) failed:

  anna@example.net
    SMTP error from remote mail server after RCPT TO:<anna@example.net>:
    550 5.1.1 no such user

------ This is a copy of the message, including all the headers. ------

From: Kaskad <hello@example.com>
"""

OUT_OF_OFFICE = """From: Anna <anna@example.net>
To: {to}
Subject: Automatic reply: Hi
Auto-Submitted: auto-replied (vacation)
Message-ID: <ooo@example.net>
Content-Type: text/plain; charset=utf-8

I am away until Monday.
"""

REPLY = """From: Anna <anna@example.net>
To: Kaskad <{to}>
Subject: =?utf-8?b?UmU6INCf0YDQuNCy0LXRgg==?=
Message-ID: <reply-1@example.net>
In-Reply-To: <1@example.com>
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

{text}
"""
