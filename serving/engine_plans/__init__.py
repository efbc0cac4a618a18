"""From an engine's name to graphs that are built, compared and fit to be served."""
