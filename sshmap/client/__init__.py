"""Asks every host at once and puts the answers together; the Python API.

`cluster` is the front, `conversations` leases sessions with the hosts, `upload`, `download`,
`listing` and `jobs` make the requests, `results` is what they return.
"""
