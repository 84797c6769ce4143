"""POST /-/reload: read the target file again."""

import msgspec
from fastapi import APIRouter, Response

from collector.api.context import Administering, Running
from collector.errors import Refused

router = APIRouter(tags=["operation"], dependencies=[Administering])


@router.post("/-/reload")
async def post_reload(context: Running, *, confirm: bool = False) -> Response:
    """Check the target file whole and make it current; 422 names its problems, and the old targets stay.

    A file that takes most away is refused (409) unless `confirm=true`.
    """
    if context.settings.targets is None:
        raise Refused(
            "no_targets", "Start the collector with --targets FILE, or use isochrone-collector targets apply."
        )
    applied = await context.reload(confirm)
    return Response(msgspec.json.encode(applied), media_type="application/json")
