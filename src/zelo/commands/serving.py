"""Commands about serving: answer over HTTP."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from zelo.commands.base import ENGINE
from zelo.encoders.extras import import_extra


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 for all of this machine's.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 = any free one.")
@click.option("--allow-host", "hosts", multiple=True, metavar="NAME", help="A host name that clients may use; repeat it for more.")
@click.option("--queue", type=click.IntRange(min=1), default=256, show_default=True, help="Requests at once; above it clients get 429.")
@click.option("--timeout", type=click.FloatRange(min=0.1), default=60.0, show_default=True, help="Seconds for a request.")
@click.option("--max-documents", type=click.IntRange(min=1), default=1000, show_default=True, help="Documents of a request.")
@click.option("--max-body", type=click.IntRange(min=1024), default=8 * 2**20, show_default=True, help="Bytes of a request.")
@click.option("--batch-tokens", type=click.IntRange(min=1), default=4096, show_default=True, help="Tokens scored at a time.")
@ENGINE
@click.option("--drain", type=click.FloatRange(min=1.0), default=30.0, show_default=True, help="Seconds to finish in after SIGTERM.")
def serve(model: Path, host: str, port: int, hosts: tuple[str, ...], engine: Any, **limits: Any) -> None:
    """Serve a reranker over HTTP, in the dialects of Cohere, Jina, Voyage, TEI and vLLM.

    MODEL is a model folder, or a workspace: its page then also shows the workspace's questions. Bearer keys are read from
    ZELO_SERVE_KEYS. SIGTERM ends it when the requests under way are answered.
    """
    for module, package in (("fastapi", "fastapi"), ("uvicorn", "uvicorn"), ("prometheus_client", "prometheus-client")):
        import_extra(module, package, "serve")
    from zelo.serve.gate import Settings, keys_from_environment
    from zelo.serve.loading import load_served
    from zelo.serve.running import LOOPBACK, is_loopback, serve

    # A server on loopback answers to loopback names only, and others to any: there the network knows the names.
    names = (*LOOPBACK, host.lower(), *(name.lower() for name in hosts)) if hosts or is_loopback(host) else ()
    settings = Settings(keys_from_environment(), names, **limits)
    serve(load_served(model, engine), settings, host, port, lambda line: click.echo(line, err=True))
