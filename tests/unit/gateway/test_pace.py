from gateway.pace import RankingPace


def test_without_experience_everything_is_affordable() -> None:
    assert RankingPace().affordable(200, remaining_seconds=0.001) == 200


def test_half_of_the_time_left_goes_to_ranking() -> None:
    pace = RankingPace()
    for _ in range(50):
        pace.ranked(200, 0.1)
    assert pace.affordable(200, remaining_seconds=0.3) == 200
    assert 95 <= pace.affordable(200, remaining_seconds=0.1) <= 105


def test_if_ranking_always_times_out_the_list_shrinks() -> None:
    pace = RankingPace()
    kept = []
    candidate_count = 200
    for _ in range(10):
        candidate_count = pace.affordable(200, remaining_seconds=0.1)
        kept.append(candidate_count)
        pace.timed_out(candidate_count, 0.1)
    assert kept[0] == 200
    assert kept[-1] < 50


def test_it_grows_again_when_ranking_answers() -> None:
    pace = RankingPace()
    for _ in range(10):
        pace.timed_out(pace.affordable(200, 0.1), 0.1)
    for _ in range(40):
        pace.ranked(pace.affordable(200, 0.1), 0.001)
    assert pace.affordable(200, remaining_seconds=0.1) == 200


def test_never_more_than_there_are() -> None:
    pace = RankingPace()
    pace.ranked(1000, 0.2)
    assert pace.affordable(10, remaining_seconds=0.05) <= 10
