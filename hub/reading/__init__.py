"""The queue: priority, lease, return for retake, history requests."""
