"""What our server is measured beside: base.py has the contract, and each peer has a file."""
