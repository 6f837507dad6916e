"""How much one key and one address may send: token buckets in bounded memory. Pure but for the clock handed in."""

from collections import OrderedDict


class Throttle:
    """A bucket of tokens for each name: `burst` at first, `rate` more each second, never more than `burst`.

    At most `remembered` names are known at once. Who was not heard of for longest is forgotten first and then has a
    full bucket again, which he would soon have had anyway.
    """

    def __init__(self, rate: float, burst: float, remembered: int) -> None:
        self._rate = rate
        self._burst = burst
        self._remembered = remembered
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def allows(self, name: str, count: int, now: float) -> bool:
        """Take `count` tokens from a name's bucket, or none if they are not there.

        A request larger than the bucket passes when the bucket is full: it could never be sent otherwise.

        Args:
            name: whose bucket.
            count: hits in the request.
            now: seconds of a clock that does not go back.
        """
        tokens, at = self._buckets.pop(name, (self._burst, now))
        tokens = min(self._burst, tokens + (now - at) * self._rate)
        is_allowed = tokens >= min(count, self._burst)
        self._buckets[name] = (tokens - count if is_allowed else tokens, now)
        if len(self._buckets) > self._remembered:
            self._buckets.popitem(last=False)
        return is_allowed
