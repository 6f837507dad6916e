"""What every other package stands on: settings, errors, the schema, the database, the event log, logs and metrics."""
