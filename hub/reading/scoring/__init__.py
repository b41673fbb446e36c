"""Images judged: a grade for each exam, with reasons and pictures of what was wrong, for the clinic to learn from."""
