"""The second pair of eyes: preliminary reports, review with its grade, arbitration, and reading again after signing."""
