"""`zelo bench`: the same recipe over several collections, systems in one table, differences tested, a page for people."""
