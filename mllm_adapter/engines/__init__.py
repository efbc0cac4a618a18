"""What generates tokens: one protocol, several libraries."""
