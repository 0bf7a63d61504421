"""The real command, as a user meets it."""
