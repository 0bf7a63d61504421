"""Tests that take minutes: many random cuts, many hosts; run by `make fault`."""
