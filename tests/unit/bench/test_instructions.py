from io import StringIO

from benchmarks.instructions import instructions_by_library

PROFILE = """\
# callgrind format
events: Ir

ob=(1) /opt/lib/libpython3.11.so
fl=(1) ceval.c
fn=(1) evaluate
10 100
cob=(2) /opt/lib/_message.so
cfn=(2) parse
calls=3 20
11 5000
+2 50

ob=(2)
fn=(2)
20 5000
ob=(1)
fn=(3) other
* 7
"""


def test_a_library_has_its_own_instructions_and_not_those_that_it_calls() -> None:
    assert instructions_by_library(StringIO(PROFILE)) == {"libpython3.11.so": 157, "_message.so": 5000}
