"""An agent's side of a client's conversation. Start with `server`, which reads requests and passes them on."""
