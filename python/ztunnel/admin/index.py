"""`/`: what there is, for a browser."""

from __future__ import annotations

from ztunnel.admin.messages import Answer

ENDPOINTS = (
    (
        "config_dump",
        "GET",
        "the mesh, the certificates and the configuration as this proxy has them",
    ),
    ("logging", "POST", "the log's levels: ?level=debug, ?level=access=debug, ?reset"),
    ("quitquitquit", "POST", "lets connections end and ends the proxy"),
    ("debug/pprof/profile", "GET", "where the time goes, for pprof: ?seconds=10&amp;frequency=100"),
    ("debug/pprof/heap", "GET", "what holds memory, for pprof; figures only, unless it is traced"),
    ("debug/pprof/heap/profiling", "POST", "traces allocations: ?activate=true, ?activate=false"),
)


def answer() -> Answer:
    """The page. It loads nothing and may not be framed."""
    return Answer(
        status=200,
        kind="text/html; charset=utf-8",
        text=PAGE.encode(),
        headers=(
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
            ("x-content-type-options", "nosniff"),
        ),
    )


def _row(path: str, method: str, meaning: str) -> str:
    # Only what a browser asks for with GET is a link.
    name = f'<a href="/{path}">/{path}</a>' if method == "GET" else f"/{path}"
    return f"<tr><td>{name}<td>{method}<td>{meaning}\n"


PAGE = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>ztunnel</title>
<h1>ztunnel</h1>
<table>
{"".join(_row(*endpoint) for endpoint in ENDPOINTS)}</table>
"""
