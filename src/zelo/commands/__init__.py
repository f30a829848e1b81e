"""The commands, a file for each kind. `zelo.cli` puts them together."""
