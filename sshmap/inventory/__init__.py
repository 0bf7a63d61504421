"""The inventory: which hosts there are, how to reach them and where their roots lie.

`hosts.py` holds the values, `ranges.py` the notation ``h[01-12]``, `loading.py`
reads and checks the TOML file, `importing.py` writes one to start from, `discovery.py` finds it or makes the built-in
local cluster. Nothing here opens a connection.
"""

from sshmap.inventory.discovery import builtin, discover
from sshmap.inventory.hosts import Host, Inventory
from sshmap.inventory.loading import load

__all__ = ["Host", "Inventory", "builtin", "discover", "load"]
