"""An engine in a process of its own, which several front ends share."""
