"""Places for the tests of the store: SQLite, and PostgreSQL where there is a server."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from absent import absent
from sqlalchemy import create_engine, make_url, text
from stored_results import (
    close_opened,
)

from harness.store import Store


@pytest.fixture(params=["sqlite", "postgresql"])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """A function that names a new, empty place at every call."""
    if request.param == "sqlite":
        yield lambda: str(tmp_path / uuid.uuid4().hex / "results.db")
        return
    server = os.environ.get("FSBENCH_TEST_POSTGRES", "")
    if not server:
        absent("FSBENCH_TEST_POSTGRES names no PostgreSQL database (postgresql+psycopg://user@host/database)")
    engine, schemas = create_engine(server), []

    def new_place() -> str:
        schemas.append(f"test_{uuid.uuid4().hex}")
        with engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {schemas[-1]}"))
        url = make_url(server).update_query_dict({"options": f"-csearch_path={schemas[-1]}"})
        return url.render_as_string(hide_password=False)

    yield new_place
    for schema in schemas:  # one at a time: a server locks so many tables at once and no more
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
    engine.dispose()


@pytest.fixture
def place(places: Callable[[], str]) -> str:
    return places()


@pytest.fixture
def store(place: str) -> Iterator[Store]:
    with Store.open(place, create=True) as store:
        yield store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.db"


@pytest.fixture(autouse=True)
def close_all() -> Iterator[None]:
    yield
    close_opened()
