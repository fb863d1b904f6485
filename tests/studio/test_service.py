"""What the gateway knows of LM Studio's models, and what it tells of them."""

from __future__ import annotations

from lmgateway.interfaces import IExchangeListener, IModelManager
from lmgateway.inventory import Inventory
from lmgateway.message import ActiveModel
from lmgateway.studio.service import CLOSE_SECONDS, ModelService
from lmgateway.studio.watching import IDLE_AFTER, IDLE_POLL_SECONDS
from twisted.application.service import IService
from twisted.internet.defer import Deferred, fail
from zope.interface.verify import verifyObject

from tests.studio.support import DOWN, ScriptedChoice, ScriptedStudio, ServiceTestCase, exchange, instance


class InterfaceTests(ServiceTestCase):
    def test_interfaces(self) -> None:
        """It is a service that listens to requests, and what the tests put in its place is what it asks for."""
        verifyObject(IService, self.service)
        verifyObject(IExchangeListener, self.service)
        verifyObject(IModelManager, self.studio)


class KnowledgeTests(ServiceTestCase):
    def test_unknown(self) -> None:
        """Before the first look nothing is known, and it is not said that anything is."""
        service = self.service
        self.assertEqual((service.inventory, service.knownAt, service.management), (None, None, None))
        self.assertEqual((service.reason, service.isStale, service.currentLoad), (None, False, None))
        self.assertIsNone(service.isResident(ActiveModel("m")))

    def test_reason(self) -> None:
        """While LM Studio answers the reason is why models are managed as they are, else why it does not."""
        self.choice.reason = "It speaks REST."
        self.start()
        self.assertEqual(self.service.reason, "It speaks REST.")
        self.studio.answer = self.choice.choice = DOWN
        self.wait(5)
        self.assertEqual(self.service.reason, DOWN.message)

    def test_outside(self) -> None:
        """What is loaded and unloaded elsewhere is told; what was there at first is not."""
        self.start("a", "b")
        self.wait(10)
        self.assertEqual(self.journal.events, [])
        self.studio.has("b", "c")
        self.wait(5)
        self.assertEqual(self.told("model_state"), [{"loaded": ("c",), "unloaded": ("a",)}])
        self.wait(20)
        self.assertEqual(len(self.journal.events), 1)

    def test_restart(self) -> None:
        """What LM Studio has no more when it comes back is told, also if it is another version by then."""
        self.start("a", "b")
        self.studio.answer = self.choice.choice = DOWN
        self.wait(30)
        self.assertEqual((self.service.reason, self.service.isStale), (DOWN.message, True))
        self.choice.choice = ScriptedStudio("b", management="sdk")
        self.wait(60)
        self.assertEqual(self.service.management, "sdk")
        self.assertEqual(self.told("model_state"), [{"loaded": (), "unloaded": ("a",)}])
        self.assertEqual(self.kinds(), ["upstream_down", "upstream_up", "model_state"])

    def test_noManagement(self) -> None:
        """An LM Studio that offers no management tells nothing of what is loaded: no change is taken from it."""
        self.active.model = ActiveModel("a")
        self.start("a")
        self.studio.answer = self.choice.choice = DOWN
        self.wait(6)
        self.choice.choice = ScriptedStudio(management="gateway")
        self.wait(10)
        self.assertEqual(self.service.management, "gateway")
        self.assertIsNone(self.service.isResident(self.active.current()))
        self.choice.choice = ScriptedStudio("a", "b")
        self.wait(120)
        self.assertEqual(self.service.management, "rest")
        self.assertEqual(self.told("model_state", "error"), [])

    def test_look(self) -> None:
        """Clients that ask for what is unknown cannot drive requests into LM Studio; an admin asks anew."""
        self.assertIs(self.successResultOf(self.service.look()), True)
        self.assertIs(self.successResultOf(self.service.look()), False)
        self.assertEqual(self.studio.asked, 1)
        self.assertIs(self.successResultOf(self.service.refresh()), True)
        self.clock.advance(1.1)
        self.assertIs(self.successResultOf(self.service.look()), True)
        self.assertEqual(self.studio.asked, 3)

    def test_replaceUpstream(self) -> None:
        """What another LM Studio has is no change of anything."""
        self.active.model = ActiveModel("a")
        self.start("a")
        self.service.replaceUpstream(ScriptedChoice(ScriptedStudio("b")), self.state)
        self.wait(20)
        self.assertEqual(self.told("model_state", "error"), [])
        self.assertIs(self.service.isResident(self.active.current()), False)


class SubscriberTests(ServiceTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.given: list[tuple[Inventory | None, str | None]] = []

    def test_changes(self) -> None:
        """A subscriber is given what is known, again only when that changes, and nothing for another LM Studio."""
        self.service.subscribe(lambda inventory, management: self.given.append((inventory, management)))
        self.start("a")
        first = self.studio.answer
        self.wait(30)
        self.assertEqual(self.given, [(first, "rest")])
        self.studio.has("a", "b")
        self.wait(5)
        self.assertEqual(self.given[1:], [(self.studio.answer, "rest")])
        self.service.replaceUpstream(ScriptedChoice(DOWN), self.state)
        self.assertEqual(self.given[2:], [(None, None)])

    def test_late(self) -> None:
        """Who comes late is given what is known."""
        self.start("a")
        self.service.subscribe(lambda inventory, management: self.given.append((inventory, management)))
        self.assertEqual(self.given, [(self.studio.answer, "rest")])

    def test_defect(self) -> None:
        """A defect of one is logged, and takes nothing from others."""
        self.service.subscribe(lambda *_: 1 // 0)
        self.service.subscribe(lambda inventory, management: self.given.append((inventory, management)))
        self.start("a")
        self.assertEqual(len(self.given), 1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class ActiveModelTests(ServiceTestCase):
    def test_resident(self) -> None:
        """Whether a model is loaded is known while LM Studio answers, and not otherwise."""
        self.start("a", instance("a:2", "a"))
        for active, resident in ((ActiveModel("a", "a:2"), True), (ActiveModel("b"), False), (None, None)):
            self.assertIs(self.service.isResident(active), resident)
        self.studio.answer = self.choice.choice = DOWN
        self.wait(5)
        self.assertIsNone(self.service.isResident(ActiveModel("a")))

    def test_vanished(self) -> None:
        """An active model that is no longer loaded stays active, and that is told: once for each time."""
        self.active.model = ActiveModel("a", "a:2", {"topP": 1})
        self.start(instance("a:2", "a"))
        for _ in range(2):
            self.studio.has()
            self.wait(30)
            (error,) = self.told("error")
            self.assertEqual((error["operation"], error["modelKey"]), ("active_model", "a"))
            self.assertIn('"a:2" is no longer loaded', error["error"])
            self.assertEqual(self.active.current(), ActiveModel("a", "a:2", {"topP": 1}))
            self.studio.has(instance("a:2", "a"))
            self.wait(10)
            self.journal.events.clear()

    def test_neverLoaded(self) -> None:
        """A model that was activated without having been loaded is not resident, and that is no error."""
        self.start("a")
        self.active.model = ActiveModel("b")
        self.wait(60)
        self.assertEqual(self.journal.events, [])
        self.assertIs(self.service.isResident(self.active.model), False)

    def test_vanishedWhileDown(self) -> None:
        """While LM Studio is down nobody knows; when it is back without the model, that is told."""
        self.active.model = ActiveModel("a")
        self.start("a")
        self.studio.answer = self.choice.choice = DOWN
        self.wait(30)
        self.assertEqual(self.told("error"), [])
        self.choice.choice = ScriptedStudio()
        self.wait(60)
        self.assertEqual(len(self.told("error")), 1)

    def test_activate(self) -> None:
        """What LM Studio cannot be told to load a model with is told with its activation."""
        self.successResultOf(self.service.activate(ActiveModel("m", None, {}, {"parallel": 2})))
        self.assertEqual(self.told("model_activate")[0]["loadConfig"], {"parallel": 2})
        self.assertEqual(self.successResultOf(self.service.deactivate()), ActiveModel("m", None, {}, {"parallel": 2}))
        self.assertIsNone(self.service.active)


class ExchangeTests(ServiceTestCase):
    def test_idle(self) -> None:
        """A request after a long silence has LM Studio looked at."""
        self.start()
        self.wait(IDLE_AFTER + IDLE_POLL_SECONDS + 10)
        asked = self.studio.asked
        self.service.exchangeBegun(exchange("m"))
        self.clock.advance(0)
        self.assertEqual(self.studio.asked, asked + 1)

    def test_failed(self) -> None:
        """So does one that failed, and one that did not though LM Studio was thought to be down."""
        self.start()
        self.clock.advance(2)
        failed = exchange("m")
        failed.ending = "failed"
        self.service.exchangeEnded(failed)
        self.clock.advance(0)
        self.assertEqual(self.studio.asked, 2)
        self.studio.answer = self.choice.choice = DOWN
        self.wait(20)
        self.choice.choice = ScriptedStudio()
        answered = exchange("m")
        answered.ending, answered.status = "complete", 200
        self.service.exchangeEnded(answered)
        self.clock.advance(1)
        self.assertIsNone(self.service.reason)

    def test_answered(self) -> None:
        """One that was answered has nobody looking."""
        self.start()
        self.clock.advance(2)
        answered = exchange("m")
        answered.ending, answered.status = "complete", 200
        self.service.exchangeBegun(answered)
        self.service.firstTokenPassed(answered)
        self.service.exchangeEnded(answered)
        self.clock.advance(1)
        self.assertEqual(self.studio.asked, 1)


class LifeTests(ServiceTestCase):
    def test_stop(self) -> None:
        """Stopped, it lets go of everything."""
        self.service.startService()
        self.clock.advance(0)
        self.successResultOf(self.service.stopService())
        self.assertEqual((self.clock.getDelayedCalls(), self.studio.closed), ([], 1))

    def test_closeFails(self) -> None:
        """What does not close in good order ends nothing."""
        self.studio.close = lambda: fail(ZeroDivisionError())  # type: ignore[method-assign]
        self.service.startService()
        self.clock.advance(0)
        self.successResultOf(self.service.stopService())

    def test_closeHangs(self) -> None:
        """What does not close at all is not waited for without end."""
        self.studio.close = Deferred  # type: ignore[method-assign,assignment]
        self.service.startService()
        self.clock.advance(0)
        stopping = self.service.stopService()
        self.assertNoResult(stopping)
        self.clock.advance(CLOSE_SECONDS)
        self.successResultOf(stopping)

    def test_unstarted(self) -> None:
        """Before it is started it looks when it is asked, and not otherwise."""
        self.assertIsInstance(self.service, ModelService)
        self.successResultOf(self.service.refresh())
        self.wait(60)
        self.assertEqual(self.studio.asked, 1)
