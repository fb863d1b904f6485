"""Values of ``defaultInference`` that are as they must be, and others."""

from __future__ import annotations

GOOD: dict[str, tuple[object, ...]] = {
    "temperature": (0, 2, 0.7, 1),
    "maxTokens": (1, 10**20),
    "topP": (0, 1, 0.5),
    "topK": (0, 40),
    "repeatPenalty": (0.0001, 1, 1e300),
    "stopStrings": ([], ["a", ""]),
    "stream": (True, False),
}
BAD: dict[str, tuple[object, ...]] = {
    "temperature": (-0.1, 2.01, True, "1", None, [1], float("nan"), float("inf")),
    "maxTokens": (0, -1, 1.0, 1.5, True, "1", None),
    "topP": (-0.1, 1.01, False, "1", None, float("nan")),
    "topK": (-1, 1.0, True, None),
    "repeatPenalty": (0, 0.0, -1, True, None, float("inf"), float("nan"), 10**400),
    "stopStrings": ("a", None, {"a": 1}, 1),
    "stream": (0, 1, "true", None, []),
}
