"""Critical values 危急值: flag, alarm, escalation, read-back, what the clinic did, closing, figures."""
