"""``python -m sshmap`` is the command ``sshmap``."""

from sshmap.cli.main import main

main()
