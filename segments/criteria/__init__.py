"""The criteria language: trees of tests on contacts that compile themselves to SQL.

    {contact.city: Moscow, contact.age: {gte: 18}}
    {any: [{contact.tags: vip}, {event: {name: order.paid, count: {gte: 3}, within: 30d}}]}
    {not: {contact.consents: sms}}

One file per family of criteria; `registry` names them all.
"""

from segments.criteria.base import Criteria, Reference
from segments.criteria.check import check
from segments.criteria.parsing import parse
from segments.criteria.registry import FAMILIES
from segments.criteria.schema import json_schema

__all__ = ["FAMILIES", "Criteria", "Reference", "check", "json_schema", "parse"]
