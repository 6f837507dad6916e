"""The kinds of providers under the contract: one file and one line each."""

from tests.channels.contract import blackhole, smtp, vendors, webhook
from tests.channels.contract.adapter import Adapter

ADAPTERS: tuple[Adapter, ...] = (*smtp.ADAPTERS, *vendors.ADAPTERS, webhook.ADAPTER, blackhole.ADAPTER)
