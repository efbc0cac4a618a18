"""Files on this machine and on object stores."""
