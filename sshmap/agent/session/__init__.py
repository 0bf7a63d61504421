"""An agent's side of a client's conversation.

`listener` accepts sessions in the daemon. `server` does the opening exchange, with `admission`, which says who is
served, and passes each request to the module that answers it: `listing`, `sending` keys, `receiving` keys (each
content by `incoming`; `deliveries` says which fan-out files are taken), `verifying` keys, `adhoc` commands, `shells`, `jobs`, `runs`. A job
is planned and queued by `planning`, whose tasks `expand` makes; `refusals` says why one is refused, `explaining` why each
would be run. `following` follows a run; `orphans` are outputs whose inputs are gone. `holds` are names that a session
has for itself. `ending` serves the session that stops the daemon.
"""
