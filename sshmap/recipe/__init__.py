"""Recipes: scripts of several steps over data that is copied in, safe to run again, on a laptop's sample and on the cluster.

A recipe is a function that says which step is made from what, marked by `recipe`::

    from sshmap.recipe import Files, Pattern, Table, recipe

    @recipe
    def longest_trips(trips: Annotated[Files, Pattern("*.csv", "the agency's files")], top: int = 5) -> Table:
        '''The longest trips.'''
        distances = trips.map("distances", "cut -d, -f5")
        few = distances.map("few", f"sort -gr | head -n {top}")
        gathered = few.fanout("gathered", "cat > all; echo all")
        return gathered.merge("longest", f"xargs cat | sort -gr | head -n {top}").table("distance")

    if __name__ == "__main__":
        longest_trips.main()

Its parameters are the options of a typer command line. Each step's keys lie below ``sm://ENVIRONMENT/RECIPE/DATASET/STEP/``.

Reading order: `flow` (what a recipe's function makes: files and steps), `tables` (what is shown of them), `dates` (what data is
about), `files` (those on this machine), `inputs` (makes keys of them) and `fetching` (of what addresses have), `needs` (what a step
ships of others), `notes` (what is remembered beside the keys), `collecting` (deletes temporary keys), `plan` (what would be done),
`running` (does it), `finishing` (what is done with tables: `loading` them into one of `databases`, telling somebody), `showing` them,
`failures` of a recipe's own functions,
`graphs` (drawings of text), `asked` (what every recipe can be asked for), `doing` (does what was asked), `command` (the command line).
"""

from __future__ import annotations

from sshmap.recipe.command import Recipe, recipe
from sshmap.recipe.dates import Day, Month
from sshmap.recipe.files import Files, Pattern
from sshmap.recipe.flow import Data
from sshmap.recipe.tables import Table

__all__ = ["Data", "Day", "Files", "Month", "Pattern", "Recipe", "Table", "recipe"]
