"""The page of the release: figures and curves from what GetRelease says."""

from tests.unit.client.fake_gateway import FakeGateway
from tests.unit.explorer.pages import page
from winnow.client.releases import release_facts
from winnow.explorer.release import CURVE_HEIGHT, CURVE_WIDTH, curves, figures_tables
from winnow.explorer.settings import ExplorerSettings
from winnow.v1 import catalogue_pb2

RELEASE = catalogue_pb2.GetReleaseResponse(
    release_id="r",
    item_count=3416,
    index=catalogue_pb2.ReleaseIndex(kind="ivf", list_count=64, probe_count=8, recall_at_200=0.987),
    evaluations=[
        catalogue_pb2.Evaluation(part="validation", subject="chain", figures={"hr_at_10": 0.5}),
        catalogue_pb2.Evaluation(part="test", subject="ease", figures={"mrr": 0.1, "hr_at_10": 0.25, "other": 7}),
        catalogue_pb2.Evaluation(part="test", subject="chain", figures={"hr_at_10": 0.375}),
        catalogue_pb2.Evaluation(part="test", subject="gain_of_ranking", figures={"hr_at_10": 0.01}),
    ],
    epochs=[
        catalogue_pb2.Epoch(network="candidate", number=number, loss=loss, best=number == 3)
        for number, loss in enumerate((6.0, 5.0, 4.0), start=1)
    ]
    + [catalogue_pb2.Epoch(network="ranking", number=1, loss=1.0)],
)


def test_there_is_a_table_for_each_part_of_the_data_and_gaps_are_empty() -> None:
    test, validation = figures_tables(release_facts(RELEASE))
    assert (test.part, validation.part) == ("test", "validation")
    assert test.headings == ("HR@10", "MRR", "other")
    assert list(test.rows) == [
        ("ease", "EASE", ("0.2500", "0.1000", "7")),
        ("chain", "Both stages", ("0.3750", "", "")),
    ]


def test_a_curve_falls_from_left_to_right_and_one_epoch_is_a_point() -> None:
    candidate, ranking = curves(release_facts(RELEASE))
    assert list(candidate.points) == [(0, 0), (CURVE_WIDTH / 2, CURVE_HEIGHT / 2), (CURVE_WIDTH, CURVE_HEIGHT)]
    assert list(ranking.points) == [(0, 0)]


def test_the_page_shows_figures_recall_and_the_epoch_that_was_kept(
    settings: ExplorerSettings, gateway: FakeGateway
) -> None:
    gateway.release.CopyFrom(RELEASE)
    found = page(settings, "/release")
    for text in ("0.3750", "8 of 64 lists are scanned", "0.9870", "3,416", "Both stages", 'class="kept"'):
        assert text in found.text


def test_a_release_without_figures_is_not_an_empty_page(settings: ExplorerSettings) -> None:
    found = page(settings, "/release")
    assert "The release has no figures." in found.text
    assert "does not say how its training went" in found.text
