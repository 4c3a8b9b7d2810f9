"""What differs between two answers, and how far an item has moved in one."""

from winnow.client import Recommendations
from winnow.client.response_messages import ranked_items, recommendations, retrieved_items
from winnow.explorer.comparison import compare
from winnow.explorer.failures import Failure
from winnow.explorer.recommendation import joined
from winnow.v1 import recommendation_pb2


def scored(item_ids: str) -> list[recommendation_pb2.ScoredItem]:
    return [recommendation_pb2.ScoredItem(item_id=item_id) for item_id in item_ids]


def answer(item_ids: str, release_id: str = "one") -> Recommendations:
    return recommendations(recommendation_pb2.RecommendItemsResponse(items=scored(item_ids), release_id=release_id))


def test_items_of_one_answer_have_a_place_in_the_other_or_none() -> None:
    difference = compare(answer("abcd"), answer("acbe", "two"))
    assert difference is not None
    assert [(place.item_id, place.other_position, place.rise) for place in difference.first] == [
        ("a", 1, 0),
        ("b", 3, 1),
        ("c", 2, -1),
        ("d", None, None),
    ]
    assert [place.rise for place in difference.second] == [0, 1, -1, None]
    assert (difference.shared_count, difference.same_place_count, difference.same_release) == (3, 1, False)


def test_without_both_answers_nothing_is_compared() -> None:
    failure = Failure(heading="", text="", http_status=502)
    assert compare(answer("a"), failure) is None
    assert compare(failure, answer("a")) is None


def test_items_of_the_answer_have_moved_from_their_place_among_the_candidates() -> None:
    ranked, candidates = joined(
        answer("dax"),
        retrieved_items(recommendation_pb2.RetrieveItemsResponse(items=scored("abcd"))),
        ranked_items(recommendation_pb2.RankItemsResponse(items=scored("dacb"))),
    )
    assert [(item.item_id, item.place, item.rise) for item in ranked] == [("d", 4, 3), ("a", 1, -1), ("x", None, None)]
    assert [(item.place, item.rank, item.position) for item in candidates] == [
        (1, 2, 2),
        (2, 4, None),
        (3, 3, None),
        (4, 1, 1),
    ]
