"""The stages: each reads artifacts, calls core and parts, writes artifacts. Their order is in `zelo.pipeline`."""
