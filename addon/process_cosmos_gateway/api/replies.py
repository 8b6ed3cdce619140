"""HTTP replies of the server: JSON and problems."""

from http import HTTPStatus

import orjson
from aiohttp import web

from process_cosmos_gateway.contract.session import Problem


def problem_reply(code: str, message: str, status: HTTPStatus) -> web.Response:
    """Return a refusal as a JSON ``Problem`` with the given HTTP status."""
    return json_reply(Problem(code=code, message=message), status)


def json_reply(body: object, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    """Return ``body`` as a JSON response."""
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
