"""Tests; they mirror the tree of :mod:`lmgateway`. Hypothesis: no deadlines on shared machines, no luck in CI."""

import os
import signal

from hypothesis import HealthCheck, settings

settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, max_examples=200)
settings.load_profile("ci" if os.environ.get("CI") else "default")

# A shell starts what it runs in the background without Ctrl-C, and processes inherit that: ours are to be ended by it.
signal.signal(signal.SIGINT, signal.default_int_handler)
