"""The explorer in a real browser, with the three services behind it."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import local_stack
from tests.end_to_end.explorer import accessibility_violations, chromium, explorer, needs_browser, overflows, tab
from tests.releases import item_id
from winnow.client import Event, WinnowClient
from winnow.serving.local_stack import LocalStack

pytestmark = needs_browser

SIZES = [(1280, "light"), (1280, "dark"), (400, "light"), (400, "dark")]
HOSTILE = quote("<script>alert(1)</script>\"'><img src=x onerror=alert(2)>")
LONG = "/?watch=" + quote("映画" * 80) + "&watch=" + "x" * 500


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two users."""
    path = tmp_path_factory.mktemp("log") / "log.csv"
    rows = [f'ann,"{item_id(row)}",{1_700_000_000 + row},{row % 5 + 1}' for row in range(4, 44)]
    path.write_text("\n".join(["user_id,item_id,timestamp,weight", *rows, f'bob,"{item_id(3)}",1700000000,1']))
    return path


@pytest.fixture(scope="module")
def address(stack: LocalStack, log: Path) -> Iterator[str]:
    stages = [f"--{stage}-target={stack.address(f'{stage}_service')}" for stage in ("candidate", "ranking")]
    with explorer(stack.gateway_target, f"--beside={stack.gateway_target}", f"--interactions={log}", *stages) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Browser, address: str) -> Iterator[Page]:
    with tab(browser, address) as opened:
        yield opened


def ranked(page: Page) -> list[str]:
    return page.locator("section[aria-labelledby=ranked-heading] td .title").all_inner_texts()


def test_titles_are_searched_and_clicked_together(page: Page) -> None:
    page.goto("/")
    expect(page.get_by_text("No watches yet.")).to_be_visible()
    popular = ranked(page)
    page.get_by_role("searchbox", name="Add a title").press_sequentially("Title 12")
    page.get_by_role("link", name="Title 120", exact=True).click()
    expect(page.locator(".watches .title")).to_have_text(["Title 120"])
    expect(page.get_by_role("searchbox", name="Add a title")).to_be_focused()  # ready for the next one
    assert len(ranked(page)) == 20
    assert ranked(page) != popular
    page.get_by_label("Filter", exact=True).fill('genres:"Comedy" AND year >= 1995')
    page.get_by_label("Caps").fill("year=1")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator(".watches .title")).to_have_text(["Title 120"])
    assert 0 < len(ranked(page)) <= 20
    page.get_by_role("link", name="Remove Title 120").click()
    expect(page.get_by_text("No watches yet.")).to_be_visible()


def test_an_item_says_why_it_is_there_and_a_missing_one_why_not(page: Page) -> None:
    page.goto("/?user=ann&source=log&filter=year+%3E%3D+1995")
    expect(page.get_by_text("User ann: 40 watches")).to_be_visible()
    first = ranked(page)[0]
    page.locator("section[aria-labelledby=ranked-heading] td .title").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text(first)
    expect(page.get_by_role("heading", name="Why it is recommended")).to_be_visible()
    expect(page.locator(".contributions tbody tr")).not_to_have_count(0)
    expect(page.locator("section[aria-labelledby=similar-heading] tbody tr")).to_have_count(12)
    assert accessibility_violations(page) == []
    page.go_back()
    page.get_by_role("searchbox", name="Is an item missing?").press_sequentially("Title 90")
    page.get_by_role("link", name="Title 90", exact=True).click()  # of 1990
    expect(page.get_by_text("It does not match the filter.")).to_be_visible()
    expect(page.get_by_text("year >= 1995")).to_be_visible()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_every_page_fits_and_is_accessible(width: int, scheme: str, browser: Browser, address: str) -> None:
    paths = [
        "/",
        "/?user=ann&source=log&filter=year+%3E%3D+1995&caps=year%3D1&diversity=0.5",
        "/?user=nobody&source=log",
        "/?filter=year+%3E%3E&caps=x&count=1000",
        "/?filter=year+%3E",
        "/?filter=year+%3C+1900",
        LONG,
        "/item?id=item-0&user=ann&source=log",
        "/item?id=no+such+item",
        "/item?id=",
        "/titles?title=title&purpose=why",
        "/compare?user=bob&source=log",
        "/release",
        "/health?refresh=off",
        "/nowhere",
    ]
    with tab(browser, address, width=width, scheme=scheme) as page:
        for path in paths:
            page.goto(path)
            assert accessibility_violations(page) == [], path
            assert not overflows(page), path
            expect(page.get_by_role("main")).not_to_contain_text("Traceback")


@pytest.mark.slow
def test_a_keyboard_is_enough(page: Page) -> None:
    page.goto("/")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.get_by_role("searchbox", name="Add a title")).to_be_focused()
    page.keyboard.type("Title 77")
    expect(page.get_by_role("link", name="Title 77", exact=True)).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".watches .title")).to_have_text(["Title 77"])
    # Enter in the search leads to a page of its own: nothing needs scripts.
    page.get_by_role("searchbox", name="Add a title").fill("Title 78")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Add a title")
    page.get_by_role("main").get_by_role("link", name="Title 78", exact=True).press("Enter")
    expect(page.locator(".watches .title")).to_have_text(["Title 78", "Title 77"])


@pytest.mark.slow
def test_scripts_in_the_input_do_not_run(page: Page) -> None:
    for path in ("/?watch={}", "/?filter={}", "/?user={}&source=log", "/item?id={}", "/titles?title={}", "/{}"):
        page.goto(path.replace("{}", HOSTILE))
        expect(page.locator("img")).to_have_count(0)
        expect(page.locator("script")).to_have_count(1)
    page.goto("/")
    page.get_by_role("searchbox", name="Add a title").press_sequentially("<img src=x onerror=alert(1)>")
    expect(page.get_by_text("No title contains")).to_be_visible()
    expect(page.locator("img")).to_have_count(0)


@pytest.mark.slow
def test_nothing_is_fetched_from_elsewhere(page: Page, address: str) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for path in ("/", "/release", "/health?refresh=off"):
        page.goto(path)
    assert asked
    assert all(url.startswith(address) for url in asked)


@pytest.mark.slow
def test_the_release_and_the_three_services_are_shown(page: Page, stack: LocalStack) -> None:
    page.goto("/release")
    expect(page.get_by_text(re.compile(r"^\d{8}T\d{6}Z-"))).to_be_visible()
    expect(page.get_by_role("row", name="genres list")).to_be_visible()
    page.goto("/health")
    expect(page.get_by_text("serving", exact=True)).to_have_count(3)
    expect(page.get_by_text("in use")).to_have_count(3)
    # The page asks again by itself.
    with page.expect_response(lambda response: response.url.endswith("/health"), timeout=15_000) as asked:
        pass
    assert asked.value.ok
    expect(page.get_by_text("serving", exact=True)).to_have_count(3)


@pytest.mark.slow
def test_a_gateway_compared_with_itself_does_not_differ(page: Page) -> None:
    page.goto("/compare?user=ann&source=log")
    expect(page.get_by_text("Both answers are the same.")).to_be_visible()


@pytest.mark.slow
def test_a_user_of_the_store_is_asked_for_by_id(browser: Browser, releases: Path, tmp_path: Path) -> None:
    flags = [f"--users-store={tmp_path / 'users.db'}", "--users-timeout-seconds=5"]
    with local_stack(releases, gateway=flags) as stack, explorer(stack.gateway_target) as address:
        with WinnowClient(stack.gateway_target, timeout_seconds=5) as winnow:
            winnow.write_events(Event(user_id="ann", item_id=item_id(row), weight=2.0) for row in (8, 12))
        with tab(browser, address) as page:
            page.goto("/")
            page.get_by_label("Take a user").get_by_label("Take a user").fill("ann")
            page.get_by_role("button", name="Take").click()
            expect(page.get_by_text("User ann: 2 watches")).to_be_visible()
            assert len(ranked(page)) == 20
            expect(page.get_by_text("Stored history")).to_be_visible()
            page.locator("section[aria-labelledby=ranked-heading] td .title").first.click()
            expect(page.locator(".contributions tbody tr")).to_have_count(2)
            page.goto("/?user=nobody")
            expect(page.get_by_text("has no events of user “nobody”")).to_be_visible()


@pytest.mark.slow
def test_a_gateway_that_is_away_is_a_designed_state(browser: Browser) -> None:
    with explorer("127.0.0.1:1", "--timeout-seconds=1") as address, tab(browser, address) as page:
        for path in ("/", "/item?id=a", "/release", "/health?refresh=off"):
            page.goto(path)
            expect(page.get_by_text("does not answer").first).to_be_visible()
            assert accessibility_violations(page) == []
