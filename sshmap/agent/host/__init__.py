"""What concerns the host itself.

`installer` sets it up, `lifecycle` starts and stops its daemon, `logind` asks what the login service does to one,
`wake` wakes the daemon's processes, `handoff` passes sessions on to its agent, `peers` holds what the host knows of
the others, `status` says how it is, `doctor` what is wrong with it, `title` what a process is;
`throttle` keeps reading and sending to a rate.
"""
