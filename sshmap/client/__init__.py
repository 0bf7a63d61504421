"""Asks every host at once and puts the answers together; the Python API.

`cluster` is the front, `links` keeps one session per host, `upload`, `download`,
`listing` and `jobs` are the conversations, `results` is what they return.
"""
