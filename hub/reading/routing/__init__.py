"""Which hospital reads an exam, who is on duty, what is late, and what is moved when a hospital falls behind."""
