"""AWS Signature Version 4 for a request with a body, as Amazon documents it ("Create a signed AWS API request").

All of botocore for these forty lines would be the biggest thing that Kaskad installs.
"""

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlsplit


def signed(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    at: datetime,
    key: tuple[str, str],
    scope: tuple[str, str],
) -> dict[str, str]:
    """The headers with Host, X-Amz-Date and Authorization.

    Args:
        method: of HTTP.
        url: without a query.
        headers: all of them are signed.
        body: as it is sent.
        at: now, UTC.
        key: id and secret.
        scope: region and service.
    """
    parts = urlsplit(url)
    stamp = at.strftime("%Y%m%dT%H%M%SZ")
    together = {name.lower(): value.strip() for name, value in headers.items()}
    together |= {"host": parts.netloc, "x-amz-date": stamp}
    names = ";".join(sorted(together))
    canonical = "\n".join(
        [
            method,
            parts.path or "/",
            "",
            *[f"{name}:{together[name]}" for name in sorted(together)],
            "",
            names,
            hashlib.sha256(body).hexdigest(),
        ]
    )
    region, service = scope
    within = f"{stamp[:8]}/{region}/{service}/aws4_request"
    to_sign = "\n".join(["AWS4-HMAC-SHA256", stamp, within, hashlib.sha256(canonical.encode()).hexdigest()])
    secret = f"AWS4{key[1]}".encode()
    for word in (stamp[:8], region, service, "aws4_request"):
        secret = hmac.digest(secret, word.encode(), "sha256")
    signature = hmac.new(secret, to_sign.encode(), hashlib.sha256).hexdigest()
    together["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={key[0]}/{within}, SignedHeaders={names}, Signature={signature}"
    )
    return together
