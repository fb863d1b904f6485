"""An LM Studio that needs no LM Studio: what ``make run`` falls back on, and the tests' other end."""
