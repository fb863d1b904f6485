"""What decides. Pure: no reactor, no clock but one passed in, no Twisted web objects."""
