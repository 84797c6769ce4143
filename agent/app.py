"""The agent, wired: configuration -> schedule -> probe -> result -> spool -> push."""

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Final

import msgspec

from agent.bindings import Bindings
from agent.budget import Budgets, Ceilings, Refusal
from agent.clock import Clock, SystemClock, machine_boot_id
from agent.config import Private, Settings, read_credential, read_key
from agent.errors import AgentError, ConfigError
from agent.host import spare_collections
from agent.policy import Policy, Reviewed
from agent.probes import Probes
from agent.probes.inference import QUESTION
from agent.push import ConfigCache, ConfigPoller, Sender, Timing
from agent.push.credentials import CredentialFiles, RotationHints, Rotator
from agent.push.wait import wait_for
from agent.redaction import fault_words
from agent.schedule import LATE_START_SECONDS, Scheduler, time_limit
from agent.spool import Identity, Spool, SpoolLimits, uuid7
from agent.spool.files import make_folder, write_durably
from agent.telemetry import LOG, OneLine, Telemetry, package_version, set_up_logging
from agent.transport import CollectorClient
from isochrone.batch import DropReason
from isochrone.config import AgentConfig, ApiKey, Assignment
from isochrone.names import printable
from isochrone.outcome import Flag, Outcome
from isochrone.result import Result
from isochrone.wire import full_json

DRAIN_SECONDS: Final = 5.0
"""For probes in flight when the agent is told to stop."""
LAST_PUSH_SECONDS: Final = 5.0
"""For one last attempt at what waits."""
TOLD_LINES: Final = 20
"""Of what the policy made of one configuration: the log must not be flooded from outside."""

Show = Callable[[Result], None]


class Keys:
    """Finds an endpoint's key in the environment or in a file, and keeps it out of the log."""

    def __init__(self, log_form: OneLine, private: Private) -> None:
        self._log_form = log_form
        self._private = private

    def resolve(self, key: ApiKey) -> str:
        """Return the key; raise ConfigError that says where it was looked for."""
        value = read_key(Path(key.file or ""), self._private) if key.env is None else _from_environment(key.env)
        self._log_form.hide(value)
        return value


class Prober:
    """One attempt at a target: allowed, within budget, in time, and recorded whatever happens."""

    def __init__(
        self, probes: Probes, spool: Spool, *, budgets: Budgets, clock: Clock, policy: Policy, show: Show
    ) -> None:
        self._probes = probes
        self._spool = spool
        self._budgets = budgets
        self._clock = clock
        self._policy = policy
        self._show = show
        self.on_outcome: Callable[[Outcome, int | None], None] = _unheard
        """Called with how a probe ended, and with the revision that asked for it."""
        self.config_revision: int | None = None
        """That of the targets now: what waits in the spool is filed under the target that was measured."""

    async def attempt(self, target: Assignment, late_seconds: float) -> None:
        """Probe and record. `late_seconds` is the time since the planned moment."""
        revision = self.config_revision
        today = self._clock.utc_now().date()
        refusal = self._refusal(target, today)
        result = self._refused(target, refusal) if refusal is not None else await self._paid(target, today)
        self._record(msgspec.structs.replace(_with_start(result, late_seconds), config_revision=revision))
        self.on_outcome(result.outcome, revision)
        await self.keep()

    async def keep(self) -> None:
        """Bring what was spent to the disk."""
        await self._budgets.keep()

    def _refusal(self, target: Assignment, today: date) -> Refusal | None:
        if problems := self._policy.problems(target):
            return Refusal(Outcome.DENIED, problems[0])
        return self._budgets.refusal(target, today)

    async def _paid(self, target: Assignment, today: date) -> Result:
        """Probe, and count what it may cost."""
        self._budgets.begin(target, today)
        result = await self._probe(target)
        self._budgets.spend(target, result, today)
        return result

    async def _probe(self, target: Assignment) -> Result:
        begun = self._refused(target, Refusal(Outcome.TIMEOUT_TOTAL, "the probe outlived its timeout and was ended"))
        try:
            async with asyncio.timeout(time_limit(target.options)):
                return await self._probes.run(target)
        except TimeoutError:
            return begun
        except ConfigError as exc:
            return self._refused(target, Refusal(Outcome.AUTH, str(exc)))
        except Exception as exc:  # noqa: BLE001  whatever it is: a probe leaves a result
            LOG.error("probe: %s %s: a fault of ours: %s", target.endpoint, target.module, fault_words(exc))
            return self._refused(target, Refusal(Outcome.OTHER, f"a fault of ours: {fault_words(exc)}"))

    def _refused(self, target: Assignment, refusal: Refusal) -> Result:
        return Result(
            seq=0,
            endpoint=target.endpoint,
            module=target.module,
            prober=target.options.prober,
            started_at=self._clock.utc_now(),
            started_boottime_seconds=self._clock.boottime_seconds(),
            outcome=refusal.outcome,
            reason=printable(refusal.reason),
        )

    def _record(self, result: Result) -> None:
        recorded = self._spool.record(result)
        if recorded is not None:
            self._show(recorded)


class Agent:
    """Everything that lives as long as the process."""

    def __init__(self, settings: Settings, log_form: OneLine, *, clock: Clock, show_results: bool) -> None:
        self._settings = settings
        self.telemetry = Telemetry()
        self.spool = _spool(settings, clock, self.telemetry)
        timing = Timing(clock=clock, random=random.SystemRandom().random, wait=wait_for)
        credential = _credential_reader(settings.credential_file, log_form)
        self.client = CollectorClient(settings.collector_url, verify_file=settings.ca_file)
        files = CredentialFiles(settings.credential_file)
        self.rotator = Rotator(self.client, files, timing=timing, every_seconds=settings.rotate_credential_every)
        client = RotationHints(self.client, self.rotator.ask)
        private = Private(credential_file=settings.credential_file, state_dir=settings.state_dir)
        self.policy = Policy.of(settings)
        self.bindings = Bindings(settings.keys)
        self.probes = Probes(
            clock,
            Keys(log_form, private).resolve,
            key_refusal=self.bindings.refusal,
            guard=self.policy.address_refusal,
        )
        show = _printer(self.spool) if show_results else _silent
        ceilings = Ceilings.of(settings)
        budgets = Budgets(settings.state_dir / "budget.json", write=write_durably, ceilings=ceilings)
        self.prober = Prober(self.probes, self.spool, budgets=budgets, clock=clock, policy=self.policy, show=show)
        attempt = self.prober.attempt
        self.scheduler = Scheduler(clock, self.telemetry, attempt=attempt, max_in_flight=settings.max_in_flight)
        self.sender = Sender(
            self.spool,
            client,
            credential=credential,
            telemetry=self.telemetry,
            timing=timing,
            flush_seconds=settings.flush_interval,
        )
        cache = ConfigCache(settings.state_dir / "config.json")
        self.poller = ConfigPoller(client, cache, credential=credential, timing=timing)
        self.poller.apply = self._apply
        self.poller.problems = self.policy.problems
        self.poller.io_lost = lambda: self.telemetry.dropped.get(DropReason.IO, 0)
        self.prober.on_outcome = self.poller.ran
        self.sender.on_config_etag = self.poller.hint
        self.sender.on_revoked = self.scheduler.pause
        self.telemetry.before_status = self.scheduler.count

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set, then finish what is in flight, seal, and try to send once more."""
        loop = asyncio.get_running_loop()
        self.spool.on_sealed = lambda: _call(loop, self.sender.wake)
        self.spool.on_memory = lambda: _call(loop, self.spool.recover)
        self.scheduler.start()
        loops = (
            self.sender.run(),
            self.poller.run(),
            self.poller.watch_loop(),
            self.scheduler.watch_clock(),
            self.rotator.run(),
        )
        tasks = [asyncio.create_task(work) for work in loops]
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([*tasks, stopping], return_when=asyncio.FIRST_COMPLETED)
        LOG.info("stopping: no new probes")
        await self._finish(tasks)
        stopping.cancel()
        for task in tasks:
            if not task.cancelled() and (fault := task.exception()) is not None:
                LOG.error("a fault of ours ended the agent", exc_info=fault)
                raise AgentError("ended by a fault of its own: the log says where") from fault
        await self.poller.rest()  # after that: a fault of ours during a probation counts as a death

    async def _finish(self, tasks: list[asyncio.Task[None]]) -> None:
        await self.scheduler.stop(DRAIN_SECONDS)
        await self.prober.keep()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await asyncio.to_thread(self.spool.flush)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_PUSH_SECONDS):
                await self.sender.send_once_each()
        await self.probes.close()
        await self.client.close()

    async def _apply(self, config: AgentConfig) -> None:
        reviewed = self.policy.review(config)
        _tell_review(reviewed)
        config = reviewed.config
        self.telemetry.config_revision = self.prober.config_revision = config.revision
        self.bindings.agree(config.targets)  # before the first probe that could send one
        self.scheduler.apply(config)
        self.probes.retain(config.targets)


async def run_agent(settings: Settings, *, show_results: bool) -> None:
    """Run the agent until SIGTERM or SIGINT. Raises ConfigError, SpoolError, SpoolLocked at the start alone."""
    log_form = set_up_logging(settings.log_level)
    log_form.hide(QUESTION)
    read_credential(settings.credential_file)  # a wrong one is told at the start, not a minute later
    agent = Agent(settings, log_form, clock=SystemClock(), show_results=show_results)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    agent.spool.open()
    spare_collections()
    LOG.info("isochrone-agent %s, run %s, to %s", package_version(), agent.spool.boot_id, settings.collector_url)
    try:
        await agent.run(stop)
    finally:
        agent.spool.close()
    LOG.info("stopped: %d results wait", agent.spool.queued_results)


def _tell_review(reviewed: Reviewed) -> None:
    lines = [f"refused: {line}" for line in reviewed.refused] + [f"narrowed: {line}" for line in reviewed.narrowed]
    for line in lines[:TOLD_LINES]:
        LOG.warning("config: %s", printable(line, limit=400))
    if len(lines) > TOLD_LINES:
        LOG.warning("config: %d more refused or narrowed", len(lines) - TOLD_LINES)


def _spool(settings: Settings, clock: Clock, telemetry: Telemetry) -> Spool:
    make_folder(settings.state_dir)
    identity = Identity(boot_id=uuid7(clock), machine_boot_id=machine_boot_id())
    limits = SpoolLimits(max_bytes=settings.spool_max_bytes, max_age_seconds=settings.spool_max_age)
    return Spool(settings.state_dir / "spool", identity, clock=clock, limits=limits, telemetry=telemetry)


def _credential_reader(path: Path, log_form: OneLine) -> Callable[[], str]:
    def read() -> str:
        token = read_credential(path)
        log_form.hide(token)
        return token

    return read


def _printer(spool: Spool) -> Show:
    reader_is_there = True

    def show(result: Result) -> None:
        nonlocal reader_is_there
        if not reader_is_there:
            return
        try:
            sys.stdout.write(full_json(result, boot_id=str(spool.boot_id)).decode() + "\n")
            sys.stdout.flush()
        except OSError as exc:
            LOG.warning("results are not shown any more: stdout: %s", exc.strerror)
            reader_is_there = False

    return show


def _unheard(_outcome: Outcome, _revision: int | None) -> None:
    """Tell nobody."""


def _silent(_result: Result) -> None:
    """Show nothing."""


def _with_start(result: Result, late_seconds: float) -> Result:
    flags = result.flags
    if late_seconds > LATE_START_SECONDS and Flag.LATE_START not in flags:
        flags = (*flags, Flag.LATE_START)
    return msgspec.structs.replace(result, start_delay_seconds=round(late_seconds, 6), flags=flags)


def _from_environment(name: str) -> str:
    value = os.environ.get(name, "")
    if not value:
        raise ConfigError(f"no key for this endpoint: the environment variable {name} is not there or empty")
    return value


def _call(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop ended before the writer thread did
        loop.call_soon_threadsafe(work)
