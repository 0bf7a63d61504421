"""The version of this sshmap; imports nothing."""

__version__ = "0.1.0"
