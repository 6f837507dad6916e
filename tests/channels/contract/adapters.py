"""The kinds of providers under the contract: one file and one line each."""

from tests.channels.contract import smtp, vendors, webhook
from tests.channels.contract.adapter import Adapter

ADAPTERS: tuple[Adapter, ...] = (smtp.ADAPTER, *vendors.ADAPTERS, webhook.ADAPTER)
