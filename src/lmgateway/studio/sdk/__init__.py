"""LM Studio's models managed as its own SDKs do it: over WebSockets, one for each namespace."""
