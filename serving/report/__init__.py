"""What an export holds, as one page."""
