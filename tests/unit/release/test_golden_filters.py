"""A service that compiles a filter differently from when the release was made does not offer the release."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from candidate_service.retriever import Retriever
from gateway.served_catalogue import ServedCatalogue
from tests.releases import ATTRIBUTE_TYPES, attributes_of, write_random_release
from winnow.catalogue.attributes import Attributes
from winnow.catalogue.filters.compiler import CompiledFilter
from winnow.catalogue.schema import AttributeType
from winnow.release.golden_filters import GoldenMismatchError, check_filters, golden_filters
from winnow.release.reader import Release, open_release


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return open_release(tmp_path / write_random_release(tmp_path))


def test_every_attribute_has_a_golden_filter(release: Release) -> None:
    golden = release.golden_requests()
    for name in ATTRIBUTE_TYPES:
        assert any(name in filter_.canonical for filter_ in golden.filters), name
    assert golden.filter in {filter_.canonical for filter_ in golden.filters}
    assert all(filter_.match_count for filter_ in golden.filters)
    attributes = release.attributes()
    check_filters(golden.filters, attributes)
    matching = [row for row in range(attributes.item_count) if row % 30 >= 15]  # from 2005 on
    [of_year] = [filter_ for filter_ in golden.filters if filter_.canonical.startswith("year")]
    assert (of_year.canonical, of_year.match_count) == ("year >= 2004.5", len(matching))


def test_attributes_without_values_have_one_as_well() -> None:
    types = {type_.value: type_ for type_ in AttributeType}
    empty = Attributes.from_values({name: [None, None] for name in types}, types, 2)
    filters = golden_filters(empty)
    check_filters(filters, empty)
    assert all(any(name in filter_.canonical for filter_ in filters) for name in types)
    assert golden_filters(Attributes({}, 2)) == []


def test_what_matches_other_rows_is_named() -> None:
    filters = golden_filters(attributes_of(300))
    with pytest.raises(GoldenMismatchError, match=r"filter .* matches other rows than when the release was made"):
        check_filters(filters, attributes_of(301))
    changed = [replace(filters[0], sha256="0" * 64)]
    with pytest.raises(GoldenMismatchError, match="1, then 1"):
        check_filters(changed, attributes_of(300))
    unreadable = [replace(filters[0], canonical="yeer = 1")]
    with pytest.raises(GoldenMismatchError, match="yeer = 1 cannot be read"):
        check_filters(unreadable, attributes_of(300))


def test_a_service_that_compiles_differently_refuses_the_release(
    release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    def matching_everything(_canonical: str, attributes: Attributes) -> CompiledFilter:
        bitmap = np.packbits(np.ones(attributes.item_count, dtype=np.bool_), bitorder="little")
        return CompiledFilter(bitmap=bitmap, item_count=attributes.item_count, match_count=attributes.item_count)

    retriever = Retriever.from_release(release, torch.device("cpu"))
    retriever.check_golden(release.golden_requests())
    ServedCatalogue.load(release)
    monkeypatch.setattr("candidate_service.filters.compile_canonical", matching_everything)
    with pytest.raises(GoldenMismatchError, match="filtered index: "):
        Retriever.from_release(release, torch.device("cpu")).check_golden(release.golden_requests())
    monkeypatch.setattr("winnow.release.golden_filters.compile_canonical", matching_everything)
    with pytest.raises(GoldenMismatchError, match="matches other rows"):
        ServedCatalogue.load(release)


def test_a_release_without_attributes_has_golden_requests_too(tmp_path: Path) -> None:
    release = open_release(tmp_path / write_random_release(tmp_path, with_attributes=False))
    golden = release.golden_requests()
    assert (golden.filter, list(golden.filters)) == ("", [])
    Retriever.from_release(release, torch.device("cpu")).check_golden(golden)
    ServedCatalogue.load(release)
