import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from winnow.networks.watch_features import quantile_edges
from winnow.training.distributed.processes import Processes
from winnow.training.distributed.sharded_quantiles import sharded_quantile_edges

weights = st.floats(0, 2**100, width=32) | st.sampled_from([-0.0, 0.0, 1.0, 2.0, 0.5])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(values=st.lists(weights, min_size=1, max_size=40), range_count=st.integers(1, 12))
def test_edges_are_those_of_all_values_at_once(alone: Processes, values: list[float], range_count: int) -> None:
    own = np.array(values, dtype=np.float32)
    assert sharded_quantile_edges(own, range_count, alone) == quantile_edges(own, range_count)
