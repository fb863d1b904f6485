"""The subcommands of ``lmgateway``, one module each, and what several of them need; :mod:`lmgateway.cli` only gathers them."""
