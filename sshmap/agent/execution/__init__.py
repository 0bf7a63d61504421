"""Running commands: `commands` is the worker's side, `supervisor` and `server` the process that starts and ends them."""
