"""Tests of single modules: no process, no network."""
