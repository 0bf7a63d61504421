"""What a host's daemon does: `worker` turns tasks into keys, `courier` brings fan-out files to their hosts."""
