"""Mutual recognition (互认): an exam that the county already has is used again, or repeated for a reason.

What is recognised is the images and data, never the diagnostic conclusion [国卫医发〔2022〕6号].
"""
