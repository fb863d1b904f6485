"""What a configuration may say: the table of all settings, the kinds of their values, and the layers that give them."""
