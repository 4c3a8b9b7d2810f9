"""A release with any byte changed is refused with a reason."""

import random
import shutil
from pathlib import Path

import pytest

from tests.releases import write_random_release
from winnow.release.reader import ReleaseError, open_release

RANGES_PER_FILE = 24


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    releases = tmp_path_factory.mktemp("sound")
    return releases / write_random_release(releases)


def test_a_change_in_any_byte_range_is_found(sound: Path, tmp_path: Path) -> None:
    rng = random.Random(3)
    names = sorted(path.name for path in sound.iterdir())
    assert "manifest.json" in names
    for name in names:
        original = (sound / name).read_bytes()
        for number in range(RANGES_PER_FILE):
            start = number * len(original) // RANGES_PER_FILE
            end = max(start + 1, (number + 1) * len(original) // RANGES_PER_FILE)
            position = rng.randrange(start, end)
            changed = bytearray(original)
            changed[position] ^= 1 << rng.randrange(8)
            copy = tmp_path / sound.name
            shutil.copytree(sound, copy)
            (copy / name).write_bytes(changed)
            if name == "manifest.json":
                # Settings, figures and times are not hashed, but no other file can be smuggled in.
                try:
                    opened = open_release(copy)
                except ReleaseError:
                    pass
                else:
                    assert opened.manifest.files == open_release(sound).manifest.files
            else:
                with pytest.raises(ReleaseError, match=name):
                    open_release(copy)
            shutil.rmtree(copy)
