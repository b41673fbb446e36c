"""Checks of a report before it is submitted and signed: what its text says is held against the exam and itself.

`core` reads texts and facts and nothing else; `service` gathers the facts and holds the door; `policy` says which
checks a county and a hospital want. A check that reads text only ever asks: the doctor answers, and the answer is kept.
"""
