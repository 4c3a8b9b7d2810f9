"""Rates from two looks at a metrics endpoint."""

import pytest

from winnow.explorer.scrapes import Scraper, rates_between, read_scrape

EARLIER = """\
# TYPE winnow_requests_total counter
winnow_requests_total{code="OK",method="RecommendItems"} 100
winnow_requests_total{code="UNAVAILABLE",method="RecommendItems"} 1
# TYPE winnow_request_seconds histogram
winnow_request_seconds_count{method="RecommendItems"} 101
winnow_request_seconds_sum{method="RecommendItems"} 2
# TYPE winnow_queued gauge
winnow_queued{queue="recommend"} 3
"""
LATER = """\
# TYPE winnow_requests_total counter
winnow_requests_total{code="OK",method="RecommendItems"} 120
winnow_requests_total{code="OK",method="SimilarItems"} 5
winnow_requests_total{code="UNAVAILABLE",method="RecommendItems"} 6
# TYPE winnow_request_seconds histogram
winnow_request_seconds_count{method="RecommendItems"} 126
winnow_request_seconds_sum{method="RecommendItems"} 2.25
# TYPE winnow_queued gauge
winnow_queued{queue="recommend"} 7
winnow_queued{queue="rank"} 2
"""


def test_rates_are_what_was_gained_in_a_second() -> None:
    rates = rates_between(read_scrape(EARLIER, 10), read_scrape(LATER, 15))
    assert rates.requests_per_second == 6
    assert rates.failed_per_second == 1
    assert rates.mean_milliseconds == pytest.approx(10)
    assert rates.queued == {"recommend": 7, "rank": 2}


def test_a_counter_that_began_again_counts_from_zero() -> None:
    rates = rates_between(read_scrape(LATER, 10), read_scrape(EARLIER, 11))
    assert rates.failed_per_second == 1
    assert rates.requests_per_second == 101


def test_a_service_without_calls_has_no_mean() -> None:
    rates = rates_between(read_scrape(LATER, 10), read_scrape(LATER, 11))
    assert (rates.requests_per_second, rates.mean_milliseconds) == (0, None)


def test_what_is_no_finite_number_is_left_out() -> None:
    scrape = read_scrape('winnow_queued{queue="a"} NaN\nwinnow_queued{queue="b"} +Inf\nwinnow_queued{queue="c"} 2\n', 1)
    assert scrape.by_label("winnow_queued", "queue") == {"c": 2}


def test_only_addresses_of_http_are_taken() -> None:
    with pytest.raises(ValueError, match="no http:// or https:// address"):
        Scraper("file:///etc/passwd", 1)
