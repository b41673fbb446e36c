"""Settings, database session, job outbox, errors, logging, clock: knows no feature."""
