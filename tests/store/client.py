"""A client of the server's application, without a socket in between."""

from __future__ import annotations

from typing import Any

import anyio
import httpx

from store.gate import Gate
from store.offer import Puller
from store.publish import Store
from store.server import create_app


class Client:
    """Asks the application as a server would, one request at a time."""

    def __init__(
        self,
        store: Store,
        root_path: str = "",
        gate: Gate | None = None,
        puller: Puller | None = None,
    ) -> None:
        self.app = create_app(store, gate=gate, puller=puller)
        self._root_path = root_path

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        return anyio.run(self._ask, method, path, options)

    def get(self, path: str, **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("GET", path, headers=named)

    async def _ask(self, method: str, path: str, options: dict[str, Any]) -> httpx.Response:
        transport = httpx.ASGITransport(
            self.app, raise_app_exceptions=False, root_path=self._root_path
        )
        async with httpx.AsyncClient(transport=transport, base_url="http://farm.example") as client:
            return await client.request(method, path, **options)
