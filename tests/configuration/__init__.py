"""Tests of what a configuration may say."""
