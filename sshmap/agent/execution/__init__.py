"""Running commands: `shell` is how a worker runs them, `supervisor` sees to it that none outlives its worker."""
