"""What answers: Klein, and the proxy as a leaf."""
