"""Registration, the state machine of an exam, its clocks, who may see it."""
