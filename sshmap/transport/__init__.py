"""Ways to a host: a `Channel` sends and receives bytes, and code above does not know which kind of channel it has.

`channel` holds the channel over file descriptors, `unix` the one over a Unix socket (`sockets` copes with long
paths of those). `fabric` and `openssh` go to a host over ssh, `dial` picks one of them, `target` says where ssh has
to go, `peers` goes from host to host. `local` finds or starts an agent on this machine, `memory` serves a session in
this process (for tests). `argv` and `launching` are the command lines that start an agent. `session` does the
opening exchange and the requests over any channel.
"""
