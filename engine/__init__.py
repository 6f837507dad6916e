"""The engine: Temporal workflows and activities, the router, entries, and the processes that run them."""
