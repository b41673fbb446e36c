"""Versions, review, signature, addenda, critical values."""
