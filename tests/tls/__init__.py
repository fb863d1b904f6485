"""Tests of TLS towards clients."""
