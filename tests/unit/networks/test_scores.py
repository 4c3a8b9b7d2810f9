import torch

from winnow.networks.scores import scores_of_logits

LOGITS = torch.tensor([-1e6, -2.0, 0.0, 3.0, 1e6])


def test_a_probability_is_the_logistic_function_of_the_logit() -> None:
    torch.testing.assert_close(scores_of_logits(LOGITS, "probability"), torch.sigmoid(LOGITS))


def test_watch_seconds_are_the_exponential_of_the_logit_and_finite() -> None:
    seconds = scores_of_logits(LOGITS, "watch_seconds")
    torch.testing.assert_close(seconds[:4], LOGITS[:4].exp())
    assert seconds.isfinite().all()
