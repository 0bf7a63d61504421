"""``python -m sshmap`` is the command ``sshmap``."""

from sshmap.cli.start import main

main()
