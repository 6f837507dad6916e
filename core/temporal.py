"""The way to Temporal."""

import asyncio

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
        raise TemporalUnavailable(
            f"Temporal at {target} cannot be reached: {error}; check KASKAD_TEMPORAL (host:port) and whether the "
            f"server expects TLS (KASKAD_TEMPORAL_TLS is {'on' if _tls(settings) else 'off'})"
        ) from error


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
        return Misconfigured(f"Temporal at {target} refuses us ({error.message}): check KASKAD_TEMPORAL_API_KEY")
    return TemporalUnavailable(f"Temporal at {target} does not answer: {error.message}; check KASKAD_TEMPORAL")
