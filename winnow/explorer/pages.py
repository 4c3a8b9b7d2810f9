"""The pages, by address: each reads the query, asks the gateway and renders a template."""

import asyncio
from collections.abc import Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from winnow.client import ReleaseSchema
from winnow.explorer import comparison, item, recommendation
from winnow.explorer.failures import Failure
from winnow.explorer.gateways import Gateway
from winnow.explorer.health import HealthLook
from winnow.explorer.histories import History, read_history
from winnow.explorer.inputs import MAX_ID_BYTES, MAX_QUERY_BYTES, Inputs, Problem, read_inputs
from winnow.explorer.release import curves, figures_tables
from winnow.explorer.rendering import Renderer
from winnow.explorer.settings import ExplorerSettings
from winnow.explorer.suggestions import suggested_filters

SEARCH_COUNT = 8
WATCH, WHY = "watch", "why"


class Pages:
    """Answers requests of browsers."""

    def __init__(
        self, gateways: Sequence[Gateway], health: HealthLook, settings: ExplorerSettings, renderer: Renderer
    ) -> None:
        self._gateways = gateways
        self._health = health
        self._settings = settings
        self._render = renderer

    async def recommend(self, request: Request) -> Response:
        """Watches, candidates and the ranked list."""
        inputs, problems = self._inputs(request)
        gateway = self._gateways[inputs.target]
        history, schema = await self._history_and_schema(inputs, problems, gateway)
        if problems or history.failure:
            return self._page("recommend.html", inputs, problems, history, schema, chain=None)
        chain = await recommendation.ask(gateway, history, inputs)
        found = chain.answer.problems if isinstance(chain.answer, Failure) else ()
        return self._page(
            "recommend.html",
            inputs,
            [*problems, *found],
            history,
            schema,
            chain=chain,
            suggestions=suggested_filters(schema, chain.titles, [ranked.item_id for ranked in chain.ranked], inputs),
        )

    async def compare(self, request: Request) -> Response:
        """Ask both gateways the same."""
        inputs, problems = self._inputs(request)
        history, schema = await self._history_and_schema(inputs, problems, self._gateways[0])
        if problems or history.failure or len(self._gateways) == 1:
            return self._page("compare.html", inputs, problems, history, schema, chains=(), difference=None)
        # A user of the store may have another history at the other gateway.
        others = [await read_history(inputs, gateway, self._settings.user_log) for gateway in self._gateways[1:]]
        chains = await asyncio.gather(
            *(
                recommendation.ask(gateway, of_gateway, inputs)
                for gateway, of_gateway in zip(self._gateways, [history, *others], strict=True)
            )
        )
        found = [problem for chain in chains if isinstance(chain.answer, Failure) for problem in chain.answer.problems]
        return self._page(
            "compare.html",
            inputs,
            [*problems, *dict.fromkeys(found)],
            history,
            schema,
            chains=chains,
            difference=comparison.compare(chains[0].answer, chains[1].answer),
        )

    async def item(self, request: Request) -> Response:
        """Why an item is, or is not, recommended."""
        inputs, problems = self._inputs(request)
        gateway = self._gateways[inputs.target]
        item_id = request.query_params.get("id", "")
        if not 1 <= len(item_id.encode()) <= MAX_ID_BYTES:
            problems.append(Problem("", f"An item id has 1 to {MAX_ID_BYTES} bytes."))
        history, schema = await self._history_and_schema(inputs, problems, gateway)
        if problems or history.failure:
            return self._page("item.html", inputs, problems, history, schema, view=None, item_id=item_id)
        view = await item.view(gateway, history, inputs, item_id)
        return self._page("item.html", inputs, problems, history, schema, view=view, item_id=item_id)

    async def titles(self, request: Request) -> Response:
        """Titles that contain a text: a page, or the part of one that is shown while somebody types."""
        inputs, problems = self._inputs(request)
        gateway = self._gateways[inputs.target]
        text = request.query_params.get("title", "").strip()
        purpose = WHY if request.query_params.get("purpose") == WHY else WATCH
        page: Any = None
        if text and len(text.encode()) <= MAX_ID_BYTES:
            page = await gateway.attempt(gateway.client.search(text, count=SEARCH_COUNT))
        elif text:
            problems.append(Problem("", f"A title has at most {MAX_ID_BYTES} bytes."))
        part = "HX-Request" in request.headers
        return self._render.page(
            "title_list.html" if part else "titles.html",
            # What is answered with an error is not put into the page that asked for the part.
            _status(problems, page) if not part else 200,
            inputs=inputs,
            problems=problems,
            text=text,
            purpose=purpose,
            page=page,
        )

    async def release(self, request: Request) -> Response:
        """What the release is and how good it was."""
        inputs, problems = self._inputs(request)
        gateway = self._gateways[inputs.target]
        facts, schema = await asyncio.gather(
            gateway.attempt(gateway.client.release()), gateway.attempt(gateway.client.schema())
        )
        missing = isinstance(facts, Failure)
        return self._render.page(
            "release.html",
            _status(problems, facts),
            inputs=inputs,
            release=facts,
            schema=schema,
            tables=[] if isinstance(facts, Failure) else figures_tables(facts),
            curves=[] if missing or isinstance(facts, Failure) else curves(facts),
        )

    async def health(self, request: Request) -> Response:
        """The three services. The part with their state is asked for again and again, unless that is turned off."""
        inputs, _ = self._inputs(request)
        return self._render.page(
            "service_list.html" if "HX-Request" in request.headers else "health.html",
            inputs=inputs,
            services=await self._health.services(),
            refresh=request.query_params.get("refresh") != "off",
        )

    def _inputs(self, request: Request) -> tuple[Inputs, list[Problem]]:
        if len(request.scope["query_string"]) > MAX_QUERY_BYTES:
            raise HTTPException(414)
        return read_inputs(request.query_params, len(self._gateways))

    async def _history_and_schema(
        self, inputs: Inputs, problems: Sequence[Problem], gateway: Gateway
    ) -> tuple[History, ReleaseSchema | Failure]:
        if problems:
            return History(), await gateway.attempt(gateway.client.schema())
        history, schema = await asyncio.gather(
            read_history(inputs, gateway, self._settings.user_log), gateway.attempt(gateway.client.schema())
        )
        return history, schema

    def _page(
        self,
        template: str,
        inputs: Inputs,
        problems: Sequence[Problem],
        history: History,
        schema: ReleaseSchema | Failure,
        **values: Any,
    ) -> Response:
        by_field: dict[str, list[str]] = {}
        for problem in problems:
            by_field.setdefault(problem.field, []).append(problem.text)
        defaults = {"suggestions": ()}
        asked = [value for value in (values.get("chain"), *values.get("chains", ())) if value is not None]
        answers = [history.failure, *(chain.answer for chain in asked), *_explained(values.get("view"))]
        return self._render.page(
            template,
            _status(problems, *answers),
            inputs=inputs,
            problems=by_field,
            history=history,
            schema=schema,
            **{**defaults, **values},
        )


def _explained(view: item.ItemView | None) -> list[object]:
    return [] if view is None else [view.explanation]


def _status(problems: Sequence[Problem], *answers: object) -> int:
    failed = [answer.http_status for answer in answers if isinstance(answer, Failure)]
    return 400 if problems else failed[0] if failed else 200
