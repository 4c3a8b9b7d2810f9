from pathlib import Path

import pytest

from gateway.served_catalogue import ServedCatalogue
from tests.releases import write_random_release
from winnow.release.reader import open_release


@pytest.fixture(scope="session")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> ServedCatalogue:
    """300 items; row 0 is the most popular, and so on."""
    releases: Path = tmp_path_factory.mktemp("releases")
    return ServedCatalogue.load(open_release(releases / write_random_release(releases)))
