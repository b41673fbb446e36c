"""Reader and clinic: the thread on an exam, history asked for, return for retake, void exams."""
