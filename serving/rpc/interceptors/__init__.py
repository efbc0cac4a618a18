"""What every call passes through before a handler: see chain.py for the order."""
