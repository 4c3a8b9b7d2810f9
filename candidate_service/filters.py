"""Filters as the candidate stage searches them: compiled on the release's attributes and prepared for its index."""

from winnow.catalogue.attributes import Attributes
from winnow.catalogue.filters.compiler import compile_canonical
from winnow.index.protocol import CandidateIndex
from winnow.index.selection import Selection
from winnow.serving.filters import CompiledFilters


def selections(attributes: Attributes, index: CandidateIndex, max_bytes: int) -> CompiledFilters[Selection]:
    """Return what the index searches for each filter."""
    return CompiledFilters(lambda canonical: index.select(compile_canonical(canonical, attributes)), max_bytes)
