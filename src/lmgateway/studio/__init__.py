"""What speaks LM Studio."""
