"""Mathematics: pure functions on arrays and plain mappings; no files, no network, no clock, no global random state."""
