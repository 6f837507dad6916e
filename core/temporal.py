"""The way to Temporal."""

import asyncio
import re

from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode, TLSConfig

from core.errors import Misconfigured, TemporalUnavailable
from core.payloads import data_converter
from core.settings import Settings


async def connect(settings: Settings, address: str | None = None, patience: float = 10) -> Client:
    """A client of the Temporal server, known to answer and to have the namespace.

    Args:
        settings: namespace, TLS and API key.
        address: host:port; settings.temporal if not given.
        patience: seconds after which a silent server counts as unavailable.

    Raises:
        TemporalUnavailable: nothing answers there.
        Misconfigured: no address, unreadable certificates, wrong API key or unknown namespace.
    """
    target = address or settings.temporal
    if target is None:
        raise Misconfigured(
            "no Temporal server is known: start the embedded one with `kaskad up`, or set KASKAD_TEMPORAL=host:port"
        )
    try:
        return await asyncio.wait_for(_connect(settings, target), patience)
    except TimeoutError:
        raise TemporalUnavailable(
            f"Temporal at {target} did not answer within {patience:g} s: check KASKAD_TEMPORAL (host:port of the "
            "frontend, usually 7233) and the network between"
        ) from None
    except RPCError as error:
        raise _in_words(error, settings, target) from error
    except (RuntimeError, ValueError) as error:
        raise _cause(str(error), settings, target) from error


async def lazy(settings: Settings, address: str) -> Client:
    """A client that connects when it is first used, for those who must start while Temporal is away."""
    return await _client(settings, address, lazy=True)


async def _client(settings: Settings, target: str, *, lazy: bool) -> Client:
    return await Client.connect(
        target,
        namespace=settings.temporal_namespace,
        tls=_tls(settings),
        api_key=settings.temporal_api_key.get_secret_value() if settings.temporal_api_key else None,
        data_converter=data_converter,
        lazy=lazy,
    )


async def _connect(settings: Settings, target: str) -> Client:
    client = await _client(settings, target, lazy=False)
    await client.count_workflows("WorkflowType = 'none'")  # answers only where the namespace exists
    return client


def _tls(settings: Settings) -> TLSConfig | bool:
    paths = {
        "ca": settings.temporal_tls_ca,
        "cert": settings.temporal_tls_cert,
        "key": settings.temporal_tls_key,
    }
    try:
        files = {name: path.read_bytes() for name, path in paths.items() if path is not None}
    except OSError as error:
        raise Misconfigured(f"a KASKAD_TEMPORAL_TLS_* file cannot be read: {error}") from error
    if ("cert" in files) != ("key" in files):
        raise Misconfigured("KASKAD_TEMPORAL_TLS_CERT and KASKAD_TEMPORAL_TLS_KEY belong together: set both or neither")
    if files:
        return TLSConfig(
            server_root_ca_cert=files.get("ca"),
            client_cert=files.get("cert"),
            client_private_key=files.get("key"),
        )
    return settings.temporal_tls or settings.temporal_api_key is not None


def _in_words(error: RPCError, settings: Settings, target: str) -> Misconfigured | TemporalUnavailable:
    if error.status is RPCStatusCode.NOT_FOUND:
        return Misconfigured(
            f"Temporal at {target} has no namespace {settings.temporal_namespace!r}: create it (temporal operator "
            "namespace create) or set KASKAD_TEMPORAL_NAMESPACE"
        )
    if error.status in {RPCStatusCode.PERMISSION_DENIED, RPCStatusCode.UNAUTHENTICATED}:
        return _refused(error.message, settings, target)
    return TemporalUnavailable(f"Temporal at {target} does not answer: {error.message}; check KASKAD_TEMPORAL")


def _refused(words: str, settings: Settings, target: str) -> Misconfigured:
    if settings.temporal_api_key is None:
        mend = "it may want KASKAD_TEMPORAL_API_KEY"
    else:
        mend = (
            f"check KASKAD_TEMPORAL_API_KEY, and whether it is good for the namespace {settings.temporal_namespace!r}"
        )
    return Misconfigured(f"Temporal at {target} refuses us ({words}): {mend}")


_TLS_FAULTS = (
    (
        "NotValidForName",
        "has a certificate for another host name: name it in KASKAD_TEMPORAL as its certificate does",
    ),
    ("Expired", "has a certificate that has expired, or this machine's clock is wrong"),
    (
        "InvalidCertificate",
        "has a certificate that nobody vouches for whom this machine trusts: name the PEM file of its authority by "
        "KASKAD_TEMPORAL_TLS_CA",
    ),
    (
        "InvalidContentType",
        "does not speak TLS: unset KASKAD_TEMPORAL_TLS… and KASKAD_TEMPORAL_API_KEY, or name the port where it does",
    ),
    (
        "InconsistentKeys",
        "was not asked: the key in KASKAD_TEMPORAL_TLS_KEY is not that of the certificate in KASKAD_TEMPORAL_TLS_CERT",
    ),
    (
        "NoCertificatesPresented",
        "was not asked: KASKAD_TEMPORAL_TLS_CERT or KASKAD_TEMPORAL_TLS_KEY is no PEM file of a certificate or key",
    ),
)
"""What the SDK's words mean; it has no types for them."""

_HUNG_UP = ("broken pipe", "BrokenPipe", "close_notify", "connection closed", "ConnectionReset", "CertificateRequired")


def _cause(words: str, settings: Settings, target: str) -> Misconfigured | TemporalUnavailable:
    """What the SDK's words about a connection that did not come about mean, and the mend."""
    if "PermissionDenied" in words or "Unauthenticated" in words:
        said = re.search(r'message: "((?:[^"\\]|\\.)*)"', words)
        return _refused(said[1] if said else "no reason given", settings, target)
    for fault, meaning in _TLS_FAULTS:
        if fault in words:
            return Misconfigured(f"Temporal at {target} {meaning}")
    if any(one in words for one in _HUNG_UP):
        return TemporalUnavailable(f"Temporal at {target} hangs up on us: {_wanted(settings)}")
    return TemporalUnavailable(
        f"Temporal at {target} cannot be reached: {words}; check KASKAD_TEMPORAL (host:port) and whether the server "
        f"expects TLS (KASKAD_TEMPORAL_TLS is {'on' if _tls(settings) else 'off'})"
    )


def _wanted(settings: Settings) -> str:
    """What a server that closes the connection without a word most likely misses."""
    if not _tls(settings):
        return "it probably expects TLS (KASKAD_TEMPORAL_TLS=true)"
    if settings.temporal_tls_cert is None:
        return "it probably wants a client certificate (KASKAD_TEMPORAL_TLS_CERT and KASKAD_TEMPORAL_TLS_KEY)"
    return "it probably does not accept the client certificate in KASKAD_TEMPORAL_TLS_CERT"
