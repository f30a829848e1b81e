"""What the judges' answers say about the judges (`zelo judge --audit`). The statistics are in `core.audit`."""
