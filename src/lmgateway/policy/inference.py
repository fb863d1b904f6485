# -*- test-case-name: tests.policy.test_inference -*-
"""
What an admin may say of a model: ``defaultInference``, and the body that activates a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from lmgateway.message import ActiveModel
from lmgateway.policy.checks import Check, boolean, decodeFields, integer, members, name, number, optional, strings

DEFAULT_INFERENCE: Mapping[str, Check] = MappingProxyType(
    {
        "temperature": number(0, 2),
        "maxTokens": integer(1),
        "topP": number(0, 1),
        "topK": integer(0),
        "repeatPenalty": number(0, above=True),
        "stopStrings": strings,
        "stream": boolean,
    }
)
"""The members of ``defaultInference``, in the order in which they are injected."""

_ACTIVATION = members(
    {"modelKey": name, "instanceId": optional(name), "defaultInference": optional(members(DEFAULT_INFERENCE))},
    ["modelKey"],
)


def decodeActivation(body: bytes) -> ActiveModel:
    """
    Read the body of ``POST /admin/models/activate``. ``null`` for what is optional is as good as leaving it out.

    :raise BadRequest: it is no JSON object.
    :raise ValidationFailed: a member is missing, unknown or not as it must be.
    """
    fields = decodeFields(body, _ACTIVATION)
    return ActiveModel(fields["modelKey"], fields.get("instanceId"), fields.get("defaultInference") or {})
