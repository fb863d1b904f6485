"""
lmgateway: LM Studio, safely on a LAN.

One process, one reactor. A request is three straight steps: **read the head** (:mod:`lmgateway.wire`), **decide**
(:mod:`lmgateway.policy`, pure functions over frozen values) and **move bytes** (:mod:`lmgateway.wire` again). What decides
never touches a socket; what moves bytes never decides.

Imports point one way: ``tap, cli → web → wire, studio, state → policy, telemetry → message, errors, interfaces``.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
