"""What the address of a page asks for. It is all the state that there is: pages can be bookmarked and sent."""

from dataclasses import dataclass, replace
from urllib.parse import urlencode

from starlette.datastructures import QueryParams

from winnow.client import WinnowError

MAX_QUERY_BYTES = 8_192
MAX_WATCHES = 100
MAX_ID_BYTES = 512
MAX_FILTER_CHARACTERS = 2_000
MAX_CAPS = 10
MAX_COUNT = 100
DEFAULT_COUNT = 20
STORE, LOG = "store", "log"
# Of the number in a cap.
MAX_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that makes no sense, and the field of the form that it is in."""

    field: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """A history and what is asked for it, as people typed it."""

    watches: tuple[str, ...] = ()
    """Item ids that were picked, oldest first. They come after the watches of the user."""
    user: str = ""
    source: str = STORE
    """Where the watches of the user come from: `store` or `log`."""
    filter: str = ""
    caps: str = ""
    """`genres=2, year=3`."""
    diversity: str = ""
    count: str = ""
    target: int = 0
    """Which of the gateways is asked."""

    def query(self, **further: str) -> str:
        """Return the query of a page with these inputs."""
        pairs = [("watch", item_id) for item_id in self.watches]
        if self.user:
            pairs += [("user", self.user), ("source", self.source)]
        named = {"filter": self.filter, "caps": self.caps, "diversity": self.diversity, "count": self.count}
        pairs += [(name, value) for name, value in named.items() if value]
        if self.target:
            pairs.append(("target", str(self.target)))
        return urlencode([*pairs, *further.items()])

    def with_watch(self, item_id: str) -> "Inputs":
        """Add a watch, the latest one."""
        return replace(self, watches=(*self.watches, item_id))

    def without_watch(self, position: int) -> "Inputs":
        """Take out one of the picked watches."""
        return replace(self, watches=self.watches[:position] + self.watches[position + 1 :])

    def changed(self, **changes: str) -> "Inputs":
        """Return the inputs with other values in some fields."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def without_user(self) -> "Inputs":
        """Keep the picked watches only."""
        return replace(self, user="", source=STORE)

    @property
    def item_count(self) -> int:
        """How many items to ask for. Only where there is no problem."""
        return int(self.count) if self.count else DEFAULT_COUNT

    @property
    def diversity_value(self) -> float | None:
        """Only where there is no problem."""
        return float(self.diversity) if self.diversity else None

    @property
    def cap_values(self) -> dict[str, int] | None:
        """Only where there is no problem."""
        return {name.strip(): int(count) for name, _, count in map(_halves, _listed(self.caps))} or None


def read_inputs(parameters: QueryParams, target_count: int) -> tuple[Inputs, list[Problem]]:
    """Read the query of a page, and say what is wrong with it."""
    target = parameters.get("target", "")
    inputs = Inputs(
        watches=tuple(parameters.getlist("watch")),
        user=parameters.get("user", "").strip(),
        source=LOG if parameters.get("source", "") == LOG else STORE,
        filter=parameters.get("filter", "").strip(),
        caps=parameters.get("caps", "").strip(),
        diversity=parameters.get("diversity", "").strip(),
        count=parameters.get("count", "").strip(),
        target=int(target) if target in map(str, range(target_count)) else 0,
    )
    return inputs, list(_problems(inputs))


def _problems(inputs: Inputs) -> list[Problem]:
    problems = []
    if len(inputs.watches) > MAX_WATCHES:
        problems.append(Problem("history", f"{len(inputs.watches)} watches are picked: at most {MAX_WATCHES} can be."))
    if any(not 1 <= len(item_id.encode()) <= MAX_ID_BYTES for item_id in inputs.watches):
        problems.append(Problem("history", f"An item id has 1 to {MAX_ID_BYTES} bytes."))
    if len(inputs.user.encode()) > MAX_ID_BYTES:
        problems.append(Problem("user", f"A user id has at most {MAX_ID_BYTES} bytes."))
    if len(inputs.filter) > MAX_FILTER_CHARACTERS:
        problems.append(Problem("filter", f"A filter has at most {MAX_FILTER_CHARACTERS:,} characters."))
    if inputs.count and not (_is_number(inputs.count) and 1 <= int(inputs.count) <= MAX_COUNT):
        problems.append(Problem("count", f"Give a whole number from 1 to {MAX_COUNT}."))
    if inputs.diversity and not _is_share(inputs.diversity):
        problems.append(Problem("diversity", "Give a number from 0 to 1."))
    return problems + _cap_problems(inputs.caps)


def _cap_problems(caps: str) -> list[Problem]:
    listed = _listed(caps)
    if len(listed) > MAX_CAPS:
        return [Problem("caps", f"At most {MAX_CAPS} caps can be given.")]
    for cap in listed:
        name, _, count = _halves(cap)
        if not name.strip() or not _is_number(count.strip()) or int(count) < 1:
            return [Problem("caps", f"“{cap[:40]}” is no cap: write an attribute and a number, as in genres=2.")]
    return []


def problems_of(error: WinnowError) -> list[Problem]:
    """Say in which fields of the form the gateway has found something wrong; those of other fields are of no field."""
    fields = ("filter", "caps", "diversity", "history")
    return [
        Problem(
            next((field for field in fields if violation.field.removeprefix("request.").startswith(field)), ""),
            violation.description,
        )
        for violation in error.violations
    ]


def _listed(caps: str) -> list[str]:
    return [cap.strip() for cap in caps.split(",") if cap.strip()]


def _halves(cap: str) -> tuple[str, str, str]:
    return cap.rpartition("=")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS


def _is_share(text: str) -> bool:
    try:
        return 0 <= float(text) <= 1
    except ValueError:
        return False
