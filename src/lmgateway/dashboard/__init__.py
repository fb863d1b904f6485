"""The dashboard: a page, what serves it, and who is signed in to it."""
