"""``lmgateway keys``, on the state folder when no gateway runs, and on a little gateway that says what the test says."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result
from lmgateway.cli import main
from lmgateway.policy.authentication import KeyForm, checkKeyForm, digestOf
from lmgateway.state import StateStore
from lmgateway.statefile import STATE_FILE
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from tests.commands.little import NO_SETTINGS, LittleGateway, Said, error, json200
from tests.folders import temporaryFolder
from tests.test_state import Unneeded

ALICE = {
    "id": "key_1",
    "name": "alice",
    "scopes": ["inference"],
    "created": "2027-01-15T08:00:00.000Z",
    "models": ["q*"],
}
ODD = {"id": "key_2", "name": "[red]\x1b[2J", "scopes": [], "created": None, "rotatedUntil": "2027-01-16T08:00:00.000Z"}
CONFIGURED = {"id": None, "name": "GATEWAY_API_KEY", "configured": True}
LIST = {"keys": [CONFIGURED, ALICE, ODD]}
SECRET = "lmg_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-_abcdeXXXXXX"


def lmgateway(*arguments: str, **environ: str) -> Result:
    """Run the command."""
    return CliRunner(env={**NO_SETTINGS, **environ}).invoke(main, ["keys", *arguments])


class OfflineTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = temporaryFolder(self) / "state"

    def keys(self, *arguments: str) -> Result:
        """Run the command on the state folder."""
        return lmgateway(*arguments, "--state-dir", str(self.folder))

    def well(self, *arguments: str) -> Any:
        """Run the command, and give what it tells as JSON."""
        run = self.keys(*arguments, "--json")
        self.assertEqual((run.exit_code, run.stderr), (0, ""), run.output)
        return json.loads(run.stdout)

    def test_add(self) -> None:
        """A key that is made is alone on standard output, so that a script can take it; the folder holds its digest only."""
        for options in ((), ("--quiet",)):
            run = self.keys("add", f"alice{options}", *options)
            self.assertEqual(run.exit_code, 0, run.output)
            key = run.stdout.removesuffix("\n")
            self.assertEqual(checkKeyForm(key), KeyForm.WHOLE)
            self.assertEqual(run.stderr == "", bool(options))
            self.assertNotIn(key, run.stderr)
            held = (self.folder / STATE_FILE).read_bytes()
            self.assertIn(digestOf(key), held)
            self.assertNotIn(key[4:20].encode(), held)

    def test_held(self) -> None:
        """Whatever a key can be held to can be said."""
        limits = ["--model", "qwen/*", "--model", "g", "--address", "10.0.0.0/8", "--requests-per-minute", "1"]
        limits += ["--tokens-per-day", "2", "--parallel", "3", "--default", "temperature=0.5", "--no-capture"]
        limits += [
            "--default",
            'stopStrings=["a"]',
            "--scope",
            "monitor",
            "--scope",
            "inference",
            "--expires-in",
            "30d",
        ]
        made = self.well("add", "alice", *limits)
        self.assertEqual(checkKeyForm(made.pop("key")), KeyForm.WHOLE)
        del made["message"]
        shown = self.well("show", "alice")
        self.assertEqual(shown, made)
        self.assertEqual(self.well("list")["keys"], [shown])
        self.assertTrue(shown.pop("expires"))
        for name in ("id", "created", "lastUsed", "rotatedUntil"):
            del shown[name]
        self.assertEqual(
            shown,
            {
                "name": "alice",
                "scopes": ["inference", "monitor"],
                "models": ["qwen/*", "g"],
                "addresses": ["10.0.0.0/8"],
                "requestsPerMinute": 1,
                "tokensPerDay": 2,
                "parallel": 3,
                "defaultInference": {"temperature": 0.5, "stopStrings": ["a"]},
                "capture": False,
            },
        )

    def test_change(self) -> None:
        """A change says what it changes, by the name or the id of the key; what it does not name stays."""
        made = self.well("add", "alice", "--parallel", "3", "--tokens-per-day", "9")
        self.well("change", "alice", "--unlimit", "parallel", "--scope", "admin")
        told = self.well("change", made["id"], "--model", "m")
        self.assertEqual(
            (told["parallel"], told["tokensPerDay"], told["models"], told["scopes"]), (None, 9, ["m"], ["admin"])
        )
        self.assertEqual(self.keys("change", "alice").exit_code, 2)

    def test_rotate(self) -> None:
        """A rotated key is another one from then on; the old one has its grace, or none."""
        made = self.well("add", "alice")
        run = self.keys("rotate", "alice", "--quiet", "--grace", "90m")
        self.assertNotEqual(run.stdout.strip(), made["key"])
        self.assertEqual(checkKeyForm(run.stdout.strip()), KeyForm.WHOLE)
        self.assertIsNotNone(self.well("show", "alice")["rotatedUntil"])
        self.assertIsNone(self.well("rotate", "alice", "--grace", "0s")["rotatedUntil"])

    def test_revoke(self) -> None:
        """A revoked key is gone, the last one that administers the gateway too: whoever has the folder can make another."""
        self.well("add", "alice", "--scope", "admin")
        self.assertEqual(self.well("revoke", "alice")["status"], "revoked")
        self.assertEqual(self.well("list"), {"keys": []})
        run = self.keys("revoke", "alice")
        self.assertEqual(run.exit_code, 1)
        self.assertIn("There is no key alice.", run.stderr)

    def test_refused(self) -> None:
        """What is wrong is told in one line, with 1, and what is wrong with the command itself with 2."""
        self.well("add", "alice")
        for options, said in (
            (("add", "alice"), "Another key has this name"),
            (("add", "bob", "--expires", "x"), "Validation failed: expires: Must be a time"),
            (("add", "bob", "--address", "10.0.0.1/8"), "address inside a network"),
            (("add", "bob", "--default", "heat=9"), "defaultInference.heat"),
        ):
            run = self.keys(*options)
            self.assertEqual((run.exit_code, run.stdout, run.stderr.count("\n")), (1, "", 1), run.output)
            self.assertIn(said, run.stderr)
        for wrong in (("--scope", "root"), ("--parallel", "0"), ("--expires-in", "30"), ("--default", "heat")):
            self.assertEqual(self.keys("add", "bob", *wrong).exit_code, 2, wrong)

    def test_running(self) -> None:
        """A folder that a gateway uses is left alone, and the sentence says how to talk to that gateway."""
        store = StateStore.open(self.folder, Unneeded())
        self.addCleanup(lambda: self.successResultOf(Deferred.fromCoroutine(store.close())))
        run = self.keys("list")
        self.assertEqual((run.exit_code, run.stdout), (1, ""))
        self.assertIn("Another gateway is using", run.stderr)
        self.assertIn("leave --offline and --state-dir out", run.stderr)

    def test_letsGo(self) -> None:
        """The folder is free again afterwards, whatever went wrong; the settings say which one it is."""
        self.assertEqual(self.keys("revoke", "nobody").exit_code, 1)
        run = lmgateway("list", "--offline", GATEWAY_STATE_DIR=str(self.folder))
        self.assertEqual(run.exit_code, 0, run.output)

    def test_damaged(self) -> None:
        """A file that cannot be used is told in a sentence."""
        self.folder.mkdir()
        (self.folder / STATE_FILE).write_bytes(b"no database" * 100)
        run = self.keys("list")
        self.assertEqual(run.exit_code, 1)
        self.assertIn("is damaged", run.stderr)


class RunningTests(SynchronousTestCase):
    def keys(self, said: dict[str, Said], *arguments: str) -> Result:
        """Ask a gateway that says this."""
        self.gateway = LittleGateway(
            self, {"/admin/keys": [json200(LIST)], **{path: [each] for path, each in said.items()}}
        )
        return lmgateway(*arguments, "--url", self.gateway.url, LMGATEWAY_KEY="boss")

    def test_list(self) -> None:
        """There is a line for each key, and what a key is called drives no terminal."""
        run = self.keys({}, "list")
        self.assertEqual(
            [line.split() for line in run.stdout.splitlines()],
            [
                ["name", "id", "scopes", "created", "expires", "last", "used", "limits"],
                ["GATEWAY_API_KEY", "-", "admin", "-", "-", "-"],
                ["alice", "key_1", "inference", "2027-01-15T08:00", "-", "-", "models", "q*"],
                [r"[red]\x1b[2J", "key_2", "-", "-", "-", "old", "secret", "until", "2027-01-16T08:00:00.000Z"],
            ],
        )
        self.assertEqual(self.gateway.asked[0][1]["Authorization"], "Bearer boss")
        self.assertEqual(json.loads(self.keys({}, "list", "--json").stdout), LIST)

    def test_add(self) -> None:
        """What is said of a new key is asked of the gateway, and the key that it answers with is printed."""
        made = Said(201, (json.dumps({**ALICE, "key": SECRET}).encode(),))
        run = self.keys({"/admin/keys": made}, "add", "alice", "-q", "--model", "q*", "--expires-in", "2h")
        self.assertEqual((run.exit_code, run.output), (0, f"{SECRET}\n"))
        order = {"name": "alice", "models": ["q*"], "expiresInSeconds": 7200}
        self.assertEqual(self.gateway.orders(), [("/admin/keys", order)])

    def test_others(self) -> None:
        """Each is asked for by its method and its path, of the id that goes with the name."""
        place, rotated = "/admin/keys/key_1", json200({**ALICE, "key": SECRET})
        for arguments, method, path, order in (
            (("change", "alice", "--parallel", "1"), "PATCH", place, [(place, {"parallel": 1})]),
            (
                ("rotate", "key_1", "--grace", "1d"),
                "POST",
                f"{place}/rotate",
                [(f"{place}/rotate", {"graceSeconds": 86400})],
            ),
            (("revoke", "alice"), "DELETE", place, []),
        ):
            run = self.keys({path: rotated}, *arguments)
            self.assertEqual(run.exit_code, 0, run.output)
            self.assertEqual(self.gateway.methods, ["GET", method])
            self.assertEqual(self.gateway.targets, ["/admin/keys", path])
            self.assertEqual(self.gateway.orders(), order)

    def test_show(self) -> None:
        """Of a key, what there is to know is told."""
        run = self.keys({}, "show", "alice")
        self.assertIn("models             q*\n", run.stdout)
        self.assertNotIn("expires", run.stdout)

    def test_configured(self) -> None:
        """The key that is configured is shown, but not this command's to change."""
        run = self.keys({}, "revoke", "GATEWAY_API_KEY")
        self.assertEqual((run.exit_code, self.gateway.methods), (1, ["GET"]))
        self.assertIn("GATEWAY_API_KEY", run.stderr)

    def test_refused(self) -> None:
        """What the gateway refuses is told in one line, with 1."""
        run = self.keys({"/admin/keys/key_1": error(409, {"error": "There would be no key."})}, "revoke", "alice")
        self.assertEqual((run.exit_code, run.stdout), (1, ""))
        self.assertRegex(run.stderr, r"^Error: .* 409: There would be no key\.\n$")

    def test_unreadable(self) -> None:
        """An answer without a key is no success."""
        run = self.keys({"/admin/keys": json200({"odd": 1})}, "add", "alice")
        self.assertEqual((run.exit_code, run.stdout), (1, ""))

    def test_nobody(self) -> None:
        """Where nothing answers, the sentence says what works without a gateway."""
        run = lmgateway("list", "--url", "http://127.0.0.1:1")
        self.assertEqual(run.exit_code, 1)
        self.assertIn("--offline", run.stderr)

    def test_mistyped(self) -> None:
        """Of a key that the gateway does not know, it is told here whether it is mistyped."""
        for key, isMistyped in (("lmg_short", True), ("boss", False)):
            gateway = LittleGateway(self, {"/admin/keys": [error(401, {"error": "no"})]})
            run = lmgateway("list", "--url", gateway.url, LMGATEWAY_KEY=key)
            self.assertEqual(("mistyped" in run.stderr, run.exit_code), (isMistyped, 1))
