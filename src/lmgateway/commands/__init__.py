"""The subcommands of ``lmgateway``, one module each; :mod:`lmgateway.cli` only gathers them."""
