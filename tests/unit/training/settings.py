"""Settings with which the planted log is learned in a second."""

from winnow.training.presets import CandidateSettings, RankingSettings, TrainingSettings

TINY = TrainingSettings(
    vocabulary_size=1000,
    min_item_count=1,
    candidate=CandidateSettings(
        embedding_dim=16,
        hidden_dim=16,
        n_hidden_layers=1,
        history_length=8,
        bag_decays=(0.0, 0.5),
        linear_skip=True,
        embedding_std=0.05,
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
        learning_rate=0.01,
        epochs=3,
        examples_per_user=4,
        candidate_count=20,
        negative_count=8,
        positive_weight=20.0,
        examples_per_batch=32,
    ),
    precision="float32",
    seed=5,
)
