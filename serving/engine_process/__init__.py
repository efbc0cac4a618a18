"""An engine in a process of its own, which several servers share."""
