import numpy as np
import pytest

from winnow.logs.input_table import InputFileError
from winnow.logs.side_values import side_values


def test_values_are_numbered_by_frequency() -> None:
    sides = side_values({"genres": ["Drama, Comedy", None, " Comedy", ", "]}, "genres")
    np.testing.assert_array_equal(sides.values, [[2, 1], [0, 0], [1, 0], [0, 0]])
    assert sides.value_count == 2


def test_a_column_without_values_is_named() -> None:
    with pytest.raises(InputFileError, match="column author has no value for any item"):
        side_values({"genres": ["Drama"]}, "author")


def test_lists_of_a_parquet_file_are_values_as_well() -> None:
    texts = side_values({"genres": ["Drama,Comedy", None, "Comedy"]}, "genres")
    lists = side_values({"genres": [["Drama", "Comedy"], None, ["Comedy"]]}, "genres")
    assert lists.fingerprint == texts.fingerprint
