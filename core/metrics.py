"""Prometheus: counters are declared by the modules that count; here they are shown."""

import prometheus_client
from prometheus_client.exposition import choose_encoder

from core.errors import Misconfigured
from core.settings import Settings


def exposition(accept: str = "") -> tuple[bytes, str]:
    """All metrics of this process in the format that the Accept header asks for, and that format's content type."""
    encode, content_type = choose_encoder(accept)
    return encode(prometheus_client.REGISTRY), content_type


def serve(settings: Settings) -> None:
    """Show the metrics of a role that has no HTTP server of its own, at KASKAD_METRICS_PORT unless that is 0.

    Raises:
        Misconfigured: the port is taken.
    """
    if not settings.metrics_port:
        return
    try:
        prometheus_client.start_http_server(settings.metrics_port, addr=settings.host)
    except OSError as error:
        raise Misconfigured(
            f"metrics cannot be shown at {settings.host}:{settings.metrics_port}: {error.strerror}; choose another "
            "KASKAD_METRICS_PORT, one for each role on a machine"
        ) from error
