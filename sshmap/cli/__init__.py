"""The command line: arguments → one client call → a printer → an exit code.

`start` is where the process begins, `main` turns errors into exit codes. `app` holds the global options,
`verbs_data`, `verbs_copy`, `verbs_jobs`, `verbs_runs`, `verbs_hosts` and `verbs_inventory` the commands, `completion` what Tab offers. `printers`
prints results, `escaping` makes text from hosts harmless, `progress` is the moving display, `top` what the hosts do right now,
`notice` tells the user that a run has ended.
"""
