"""Ledgers as each released version of the tables left them, as SQL; `python -m tests.unit.ledgers` stores one of today."""
