"""Unknown and repeated query parameters, which are refused rather than ignored: one may be misspelled."""

from __future__ import annotations

from fastapi import HTTPException, Request
from fastapi.routing import APIRoute


async def check_parameters(request: Request) -> None:
    """Refuse a request with query parameters that its path does not have, or with one of them twice.

    Raises:
        HTTPException: 422, with their names and those that exist.
    """
    route = request.scope["route"]
    if not isinstance(route, APIRoute) or not route.include_in_schema:  # files of the page
        return
    known = [parameter.alias for parameter in route.dependant.query_params]
    unknown = [name for name in dict.fromkeys(request.query_params) if name not in known]
    if unknown:
        names = ", ".join(known) or "none"
        raise HTTPException(422, f"{', '.join(unknown)}: unknown parameter of {route.path}; known: {names}")
    given = [name for name, _ in request.query_params.multi_items()]
    if repeated := [name for name in dict.fromkeys(given) if given.count(name) > 1]:
        raise HTTPException(422, f"{', '.join(repeated)}: given more than once")
