"""What moves bytes: Twisted transports and llhttp. The reactor is always an argument, and nothing here decides."""
