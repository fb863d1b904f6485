# -*- test-case-name: tests.policy.test_target -*-
"""
The request target: one spelling of each path, or refused.

The gateway decides by the path who may ask (:mod:`lmgateway.policy.routes`) and then sends the very same bytes upstream.
That is safe only if whoever reads them there reads the same path. So what readers are known to disagree about is
refused here: empty and dot segments, escapes of characters that need none (``%6c`` for ``l``, RFC 3986 section 6.2.2.2),
escaped separators, path parameters (``;``), back slashes. Upper and lower case and a trailing slash, which LM Studio's
Express ignores, are the route table's business. A query decides nothing and passes as it came.
"""

from __future__ import annotations

import re

from lmgateway.errors import BadRequest, TargetTooLong

_ACCEPTED = re.compile(
    rb"""(?x)
    (?=/)
    (?: /
        (?! \.\.? (?: [/?] | \Z ) )                     # no dot segment
        (?: [!"$&-.0-:<->@-\[\]-~]++                    # 0x21 to 0x7E without # % / ; ? and the back slash
          | % (?: 2[0-9A-Ca-c] | 3[A-Fa-f] | 40 | 5[BDEbde] | 60 | 7[BCDbcd] | [89A-Fa-f][0-9A-Fa-f] )
        )++
    )*+
    /?
    (?: \? [!-"$-\[\]-~]*+ )?
    """
)
"""A target that nobody can read in two ways. Escapes stand only for what is neither unreserved nor a separator."""

_FORM_FAULTS = (
    (re.compile(rb"\A\Z"), "The request target is empty. Ask for a path, such as /v1/models."),
    (
        re.compile(rb"\A\*\Z"),
        'The request target "*" asks about a whole server, which the gateway does not answer. Ask for a path, such as /v1/models.',
    ),
    (
        re.compile(rb"(?i)\A[a-z][a-z0-9+.-]*://"),
        "The request target is a whole URL, and the gateway is no forward proxy. Set it as the client's base URL instead.",
    ),
    (
        re.compile(rb"\A[^/]"),
        'The request target does not begin with "/". Ask for a path, such as /v1/models.',
    ),
    (
        re.compile(rb"[^!-~]"),
        "The request target holds a space, a control character or a byte beyond ASCII. Percent-encode it.",
    ),
    (
        re.compile(rb"#"),
        'The request target holds a "#". A fragment stays with the client; a "#" that is meant is "%23".',
    ),
    (re.compile(rb"\\"), "The request target holds a back slash. Separate the parts of a path with a slash."),
)
"""What can be wrong with a target as a whole, in the order in which it is told."""

_PATH_FAULTS = (
    (
        re.compile(rb"//"),
        "The path holds an empty segment (two slashes in a row). Check the base URL that the client is given.",
    ),
    (
        re.compile(rb"(?i)/(?:\.|%2e){1,2}(?:/|\Z)"),
        'The path holds a "." or ".." segment. Ask for the path that is meant.',
    ),
    (re.compile(rb";"), 'The path holds a ";". The gateway has no path parameters; one that is meant is "%3B".'),
    (
        re.compile(rb"%(?![0-9A-Fa-f]{2})"),
        'The path holds a "%" without two hexadecimal digits. A "%" that is meant is "%25".',
    ),
    (re.compile(rb"(?i)%(?:[01].|7f)"), "The path holds a percent-encoded control character. Leave it out."),
    (re.compile(rb"(?i)%(?:2f|5c)"), "The path holds a percent-encoded slash or back slash. Write the slash as it is."),
    (re.compile(rb"%"), "The path percent-encodes a letter, digit or mark that needs no encoding. Write it as it is."),
)
"""What can be wrong with a path. The last one is all that is left when the ones before it do not apply."""


def checkTarget(target: bytes, limit: int) -> None:
    """
    Refuse a request target that two readers could read differently, or that is too long.

    :param target: the request target, exactly as it stands on the request line.
    :param limit: the length, in bytes, that is still accepted.
    :raise TargetTooLong: it is longer than ``limit``.
    :raise BadRequest: it is not in origin form (RFC 9112 section 3.2.1), or its path is not in its one spelling. The message
        says which and what to do. Both close the connection: whoever sends such a target may frame its messages no better.
    """
    if len(target) > limit:
        raise TargetTooLong(
            f"The request target has {len(target)} bytes; the gateway takes at most {limit}. Shorten the path or the query.",
            closes=True,
        )
    if _ACCEPTED.fullmatch(target) is None:
        raise BadRequest(_explain(target), code="bad_target", closes=True)


def _explain(target: bytes) -> str:
    """Why ``target``, which is not accepted, is not."""
    for pattern, sentence in _FORM_FAULTS:
        if pattern.search(target):
            return sentence
    path = target.partition(b"?")[0]
    return next(sentence for pattern, sentence in _PATH_FAULTS if pattern.search(path))
