import signal
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

from tests.compiled import stale

# How long an example takes says how busy the machine is, and nothing about the code.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# What a shell starts in the background ignores Ctrl-C, and so would all that our tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Other code than what can be read is not tested. Said here, before any of it is imported.
if modules := stale(Path(__file__).parents[1] / "protocol"):
    sys.exit(f"not compiled since they were changed: {', '.join(modules)}; say: make setup")
