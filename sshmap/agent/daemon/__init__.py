"""What works on a host without a client.

- `worker` claims tasks and turns them into keys: `attempt` runs one task, in a `task_directory` with the `shipped`
  files, while `watch` looks whether it has to be ended; `outputs` takes what its command made, `commits` makes that keys; `reasons` says why a command failed.
- `courier` brings fan-out files to their hosts, and has `announcing` tell of runs that are over; beside it, `scrub` reads
  every key once in a while.
"""
