"""The embedded stack: PostgreSQL and Temporal from packages, and the roles, as children of one process."""
