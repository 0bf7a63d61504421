"""Tests with real daemons on this machine: commands, kills, damage, repetition."""
