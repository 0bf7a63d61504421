"""Ways to a host: a `Channel` is bytes in, bytes out, close; nothing above knows which kind it has.

`channel` holds the channel over file descriptors, `unix` the one over a Unix socket; `fabric` and
`openssh` go to a host over ssh, `dial` picks one of them, `peers` goes from host to host; `local` starts or
finds an agent on this machine, `memory` serves a session in this process (for tests),
`session` does the opening exchange and the questions over any channel.
"""
