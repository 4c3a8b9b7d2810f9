"""Settings with which the planted log is learned in a second."""

from winnow.networks.features.registry import FEATURES
from winnow.networks.options import CandidateOptions, HistoryOptions
from winnow.networks.watch_features import WatchFeatures
from winnow.training.presets import CandidateSettings, ImpressionSettings, RankingSettings, TrainingSettings

TINY = TrainingSettings(
    vocabulary_size=1000,
    min_item_count=1,
    candidate=CandidateSettings(
        embedding_dim=16,
        hidden_dim=16,
        n_hidden_layers=1,
        options=CandidateOptions(
            history=HistoryOptions(
                history_length=8,
                bag_decays=(0.0, 0.5),
                bag_lags=(0,),
                signed_bags=1,
                watch_features=WatchFeatures(gap_edges_seconds=(2.0, 60.0)),
            ),
            linear_skip=True,
            embedding_std=0.05,
        ),
        held_back_share=0.2,
        weight_range_count=4,
        feature_dropout=0.1,
        learning_rate=0.01,
        position_learning_rate_factor=2.0,
        dropout=0.1,
        epochs=8,
        chunk_length=4,
        chunks_per_batch=16,
        softmax="auto",
        negative_count=32,
        exclude_watched=True,
    ),
    ranking=RankingSettings(
        embedding_dim=16,
        hidden_dim=8,
        n_hidden_layers=2,
        matching=True,
        latest_count=2,
        successors_per_item=8,
        learning_rate=0.01,
        epochs=3,
        examples_per_user=4,
        candidate_count=20,
        negative_count=8,
        positive_weight=20.0,
        weighted=True,
        examples_per_batch=32,
    ),
    impressions=ImpressionSettings(
        hidden_dim=16,
        n_hidden_layers=2,
        embedding_trained=True,
        features=tuple(FEATURES),
        objective="watch_time",
        learning_rate=0.02,
        weight_decay=0.01,
        embedding_decay=0.01,
        dropout=0.1,
        epochs=8,
        impressions_per_batch=64,
        validation_share=0.2,
        test_share=0.2,
    ),
    precision="float32",
    seed=5,
)
