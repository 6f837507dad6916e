"""What the channels count."""

from prometheus_client import Counter

MESSAGES = Counter("kaskad_messages", "Messages by the state they reached.", ["channel", "state"])
