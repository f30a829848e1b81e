"""Workers on Ray: `zelo run --on ray`. Only this folder imports Ray."""
