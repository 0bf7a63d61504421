"""Ways to a host: a `Channel` is bytes in, bytes out, close; nothing above knows which kind it has.

`fd` is the channel over file descriptors that all of them come down to, `local` starts or
finds an agent on this machine, `memory` serves a session in this process (for tests),
`session` does the opening exchange and the questions over any channel.
"""
