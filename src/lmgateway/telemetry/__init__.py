"""What remembers. Pure."""
