# -*- test-case-name: tests.tls.test_trust -*-
"""
How each platform is told to trust the gateway's authority. Pure text.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

NAME = "lmgateway-ca.crt"
"""What the file is called on the machines of others."""


class Recipe(Struct, frozen=True):
    """
    What to do on one platform.

    :param platform: its name.
    :param steps: commands, or sentences where there is no command.
    """

    platform: str
    steps: tuple[str, ...]


RECIPES = (
    Recipe("Windows (PowerShell as administrator)", (f"certutil -addstore -f Root {NAME}",)),
    Recipe(
        "macOS",
        (f"sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain {NAME}",),
    ),
    Recipe(
        "Debian, Ubuntu",
        (f"sudo cp {NAME} /usr/local/share/ca-certificates/lmgateway-ca.crt", "sudo update-ca-certificates"),
    ),
    Recipe(
        "Fedora, RHEL",
        (f"sudo cp {NAME} /etc/pki/ca-trust/source/anchors/", "sudo update-ca-trust"),
    ),
    Recipe("Arch", (f"sudo trust anchor --store {NAME}",)),
    Recipe(
        "Chrome on Linux (certutil is in libnss3-tools)",
        (f'certutil -d "sql:$HOME/.pki/nssdb" -A -t C,, -n lmgateway -i {NAME}',),
    ),
    Recipe(
        "Firefox",
        (
            "Settings, Privacy & Security, Certificates, View Certificates, Authorities, Import: trust it to identify websites",
            f'or: certutil -d "sql:FOLDER-OF-THE-PROFILE" -A -t C,, -n lmgateway -i {NAME}',
        ),
    ),
    Recipe("Node.js", (f"export NODE_EXTRA_CA_CERTS=$PWD/{NAME}",)),
    Recipe(
        "Python (httpx, and with it the OpenAI and Anthropic libraries)",
        (f"export SSL_CERT_FILE=$PWD/{NAME}", "trusts this authority alone, for what is started with it"),
    ),
    Recipe("Python (requests)", (f"export REQUESTS_CA_BUNDLE=$PWD/{NAME}",)),
    Recipe("curl", (f"curl --cacert {NAME} ...",)),
)


def fetchCommand(url: str) -> str:
    """
    The command that gets the certificate from the gateway. It is not trusted yet, so the fingerprint must be compared.

    :param url: of ``/ca.crt``.
    """
    return f"curl --insecure --output {NAME} {url}"


def verifyCommand() -> str:
    """The command that shows the fingerprint of what was got."""
    return f"openssl x509 -in {NAME} -noout -fingerprint -sha256"


def recipeLines(recipes: Iterable[Recipe] = RECIPES) -> list[str]:
    """All of them, for a terminal."""
    lines: list[str] = []
    for recipe in recipes:
        lines += [f"  {recipe.platform}", *(f"    {step}" for step in recipe.steps)]
    return lines
