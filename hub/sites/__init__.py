"""Organisations: clinics, county hospitals, supporting hospitals; their API keys and agreements."""
