"""`make test-real`: probe and agent against a real model server and a real gateway, to Postgres and /metrics.

Nothing here is ours but the product: llama.cpp streams a real (random) model, LiteLLM stands before it as gateways do.
Exit code 0 when every expectation is met, 1 when one is missed, 2 when the laboratory itself did not work.
"""

import signal
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Final

from tests.postgres import running_postgres
from tests.real.checks import Tally
from tests.real.environments import BuildFailed, litellm_python, llama_python
from tests.real.faulty import faulty_upstream
from tests.real.formats import every_format
from tests.real.lab import Lab, LabError, laboratory
from tests.real.modellog import agrees_with_the_log
from tests.real.product import Product
from tests.real.scenes import Scene, measured_at_once, outlives_faults, stands_everywhere
from tests.real.servers import GATEWAY_KEY, Gateway, ModelServer, write_model
from tests.real.table import print_table

LONGEST_SECONDS: Final = 10 * 60
"""The run itself, builds apart; usually one to two minutes."""


def main() -> int:
    """Build, measure, judge, and leave nothing behind."""
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGALRM, _too_long)
    started = monotonic()
    tally = Tally()
    try:
        llama, litellm = llama_python(), litellm_python()
        signal.alarm(LONGEST_SECONDS)
        with (
            TemporaryDirectory(prefix="isochrone-real-") as folder,
            running_postgres() as postgres,
        ):
            with faulty_upstream() as faulty, laboratory(Path(folder).resolve()) as lab:
                product = Product(lab, database_url=postgres.new_database())
                _play(_set_up(lab, product, llama=llama, litellm=litellm, faulty=faulty), tally)
            left = lab.survivors()
            tally.expect("no process is left behind", met=not left, detail=left or "")
    except (BuildFailed, LabError) as exc:
        print(f"FAIL: the laboratory did not work: {exc}", flush=True)
        return 2
    print(f"{tally.verdict()}, {monotonic() - started:.0f} s", flush=True)
    return 0 if tally.failed == 0 else 1


def _set_up(lab: Lab, product: Product, *, llama: Path, litellm: Path, faulty: str) -> Scene:
    model = write_model(lab, python=llama)
    print(f"model: {model.stat().st_size / 1e6:.0f} MB of random weights", flush=True)
    server = ModelServer(lab, python=llama, model=model)
    print(f"model server: answers after {server.start():.1f} s at {server.url}", flush=True)
    gateway = Gateway(lab, python=litellm, upstream=server.url, faulty=faulty)
    print(f"gateway: answers after {gateway.start():.1f} s at {gateway.url}", flush=True)
    return Scene(lab=lab, product=product, server=server, gateway=gateway, key=GATEWAY_KEY)


def _play(scene: Scene, tally: Tally) -> None:
    probed = measured_at_once(scene, tally)
    agrees_with_the_log(scene, tally)
    formats = every_format(scene, tally)
    stands_everywhere(scene, tally)
    summary = scene.product.summary()  # before the faults
    outlives_faults(scene, tally)
    print_table({**probed, **formats}, summary)


def _stop(_signal: int, _frame: object) -> None:
    sys.exit(143)  # unwinds, so that every process is stopped


def _too_long(_signal: int, _frame: object) -> None:
    raise LabError(f"the run took longer than {LONGEST_SECONDS} s")


if __name__ == "__main__":
    sys.exit(main())
