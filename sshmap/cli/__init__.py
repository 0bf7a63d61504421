"""The command line: arguments → one client call → a printer → an exit code.

`app` and `verbs_*` hold the commands, `printers` what they print, `progress` the moving
display, `main` turns errors into exit codes, `start` is where the process begins.
"""
