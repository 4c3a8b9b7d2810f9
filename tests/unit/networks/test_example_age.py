import torch

from winnow.networks.candidate import DeepCandidateGenerationModel
from winnow.networks.example_age import ExampleAge
from winnow.networks.options import CandidateOptions


def some_ages() -> ExampleAge:
    ages = ExampleAge(5)
    torch.nn.init.normal_(ages.shift.weight, generator=torch.Generator().manual_seed(1))
    return ages


def test_a_new_network_does_not_depend_on_the_age() -> None:
    summaries = torch.randn(2, 5)
    torch.testing.assert_close(ExampleAge(5)(summaries, torch.tensor([0.3, 1.0])), summaries, rtol=0, atol=0)


def test_the_age_enters_with_its_square_and_root() -> None:
    ages, summaries = some_ages(), torch.randn(2, 5)
    shifted = ages(summaries, torch.tensor([0.0, 0.25]))
    torch.testing.assert_close(shifted[0], summaries[0])
    torch.testing.assert_close(shifted[1], summaries[1] + ages.shift.weight @ torch.tensor([0.25, 0.0625, 0.5]))


def test_a_request_is_an_example_of_age_zero() -> None:
    network = DeepCandidateGenerationModel(12, 5, 4, 2, 3, CandidateOptions(example_age=True, linear_skip=True))
    network.example_age = some_ages()
    summaries = torch.randn(2, 5)
    of_now = network.user_vectors_of_summaries(summaries, example_ages=torch.zeros(2))
    torch.testing.assert_close(of_now, network.user_vectors_of_summaries(summaries), rtol=0, atol=0)
