"""Tests; they mirror the tree of :mod:`lmgateway`."""
