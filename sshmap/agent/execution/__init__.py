"""Running commands, and ending whatever they leave.

- In a worker: `executor` is the seam, `commands` the executor of shell commands, `tail` what it keeps of their stderr.
- In the supervisor, a process of its own: `supervisor` is where it begins, `server` runs the worker's commands one
  after the other, `plain` finds those that need no shell, `bash` runs the others, and
  `python` has functions called by `runner`, an interpreter of its own that stays.
- In a session: `once` runs one command below a supervisor of its own.
- For all of them: `shell` makes the commands' environment, `processes` ends what is below a process, `strays` ends
  commands that have lost their supervisor.
"""
