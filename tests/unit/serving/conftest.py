import gc
import logging
from collections.abc import Callable, Iterator

import pytest
import structlog

from tests.unit.serving.following import Loader
from winnow.serving.logs import LogFormat, LogLevel, configure_logs

Configure = Callable[[LogFormat, LogLevel], None]


@pytest.fixture
def configure() -> Iterator[Configure]:
    """Configures logs until the test ends."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield lambda log_format, level: configure_logs("test", log_format, level)
    root.handlers[:], root.level = before
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def loader() -> Iterator[Loader]:
    """Ends what loading does to the garbage collector."""
    yield Loader()
    gc.unfreeze()
