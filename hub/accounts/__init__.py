"""People, roles, sessions, permissions."""
