"""Tests for :mod:`lmgateway.studio.sdk`."""
