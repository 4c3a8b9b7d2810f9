"""A setting that is invalid is named as the flag and as the variable, with what was given."""

import pytest

from candidate_service.settings import CandidateSettings


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--port=70000", "--port or WINNOW_CANDIDATE_PORT"),
        ("--device=tpu", "--device or WINNOW_CANDIDATE_DEVICE"),
        ("--torch-threads=0", "--torch-threads or WINNOW_CANDIDATE_TORCH_THREADS"),
        ("--no-such-flag=1", "--no-such-flag"),
    ],
)
def test_an_invalid_setting_is_named(flag: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        CandidateSettings.from_command_line([flag])
    assert ended.value.code != 0
    assert message in f"{ended.value}{capsys.readouterr().err}"
