"""The same tests over every transport."""
