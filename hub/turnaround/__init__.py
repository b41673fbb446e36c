"""Limits, working calendar, indicators, exports."""
