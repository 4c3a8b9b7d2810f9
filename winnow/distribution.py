"""Winnow as it is installed: the name of the distribution, and which extra a missing package comes with."""

from collections.abc import Iterator
from contextlib import contextmanager

NAME = "winnow-recommender"

_EXTRA_OF_PACKAGE = {
    **dict.fromkeys(("faiss", "torch"), "serve"),
    **dict.fromkeys(("implicit", "matplotlib", "polars", "scipy", "threadpoolctl"), "train"),
    "hdrh": "loadtest",
    **dict.fromkeys(("jinja2", "starlette", "uvicorn"), "explorer"),
    "optuna": "tune",
    "obstore": "object-storage",
    "pymilvus": "milvus",
    **dict.fromkeys(
        (
            "grpc_health", "grpc_reflection", "lark", "numpy", "prometheus_client", "pydantic", "pydantic_settings",
            "rich", "safetensors", "structlog", "typer", "uvloop",
        ),
        "gateway",
    ),
}  # fmt: skip

# A program that needs another extra may be told to use one of these too.
_EXTRAS_BY_CHOICE = frozenset({"milvus"})


def install_command(extra: str) -> str:
    """Return what installs an extra."""
    return f"pip install '{NAME}[{extra}]'"


@contextmanager
def missing_extras_named(needed: str = "") -> Iterator[None]:
    """Exit with one line that names the extra where a package that belongs to one is not installed.

    That is the `needed` extra, if given, or else the smallest that has the package. Where the package belongs to an
    extra that no other has, it is that one.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _EXTRA_OF_PACKAGE:
            raise
        extra = _EXTRA_OF_PACKAGE[package]
        if needed and extra not in _EXTRAS_BY_CHOICE:
            extra = needed
        raise SystemExit(f"{package} is not installed: {install_command(extra)}") from None
