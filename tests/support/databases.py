"""PostgreSQL databases for tests: one a process, emptied after each test; making one costs half a second."""

from __future__ import annotations

import uuid

from sqlalchemy import create_engine, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError

# What the migrations themselves write lies in a second schema, from which it comes back.
_KEEP = """
DO $$ DECLARE t text; found bool; BEGIN
  CREATE SCHEMA kept;
  FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM public.%I)', t) INTO found;
    IF found THEN EXECUTE format('CREATE TABLE kept.%I AS TABLE public.%I', t, t); END IF;
  END LOOP;
END $$
"""
# Without triggers: the audit log's refuse every deletion.
_EMPTY = """
DO $$ DECLARE t text; BEGIN
  SET LOCAL session_replication_role = replica;
  FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP
    EXECUTE format('DELETE FROM public.%I', t);
  END LOOP;
  FOR t IN SELECT tablename FROM pg_tables WHERE schemaname = 'kept' LOOP
    EXECUTE format('INSERT INTO public.%I SELECT * FROM kept.%I', t, t);
  END LOOP;
  FOR t IN SELECT sequencename FROM pg_sequences WHERE schemaname = 'public' LOOP
    EXECUTE format('ALTER SEQUENCE public.%I RESTART', t);
  END LOOP;
END $$
"""
_SCHEMA = """
SELECT coalesce(md5(string_agg(line, chr(10) ORDER BY line)), '') FROM (
  SELECT concat_ws(' ', c.relname, c.relkind, a.attname, a.atttypid, a.attnotnull, a.attisdropped) AS line
    FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
    WHERE c.relnamespace = 'public'::regnamespace
  UNION ALL SELECT concat_ws(' ', conname, contype) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
  UNION ALL SELECT concat_ws(' ', tgname, tgenabled) FROM pg_trigger WHERE NOT tgisinternal
) AS lines
"""


class Databases:
    """Empty databases by a template, for one test after another.

    A database is emptied when its test is over and given to the next; one whose schema was changed, or that cannot be
    emptied, is dropped.

    Args:
        admin: Address of a database whose user may make others, and may set `session_replication_role`.
        template: Name of the migrated, empty database.
    """

    def __init__(self, admin: URL, template: str) -> None:
        self._admin = create_engine(admin, isolation_level="AUTOCOMMIT")
        self._template = template
        self._name = ""
        self._schema = ""

    def give(self) -> URL:
        """The address of an empty one."""
        if not self._name:
            self._name = f"hub_{uuid.uuid4().hex[:10]}"
            with self._admin.connect() as connection:
                connection.execute(text(f'CREATE DATABASE "{self._name}" TEMPLATE "{self._template}"'))
            self._schema = self._run(_KEEP)
        return self._admin.url.set(database=self._name)

    def take_back(self) -> None:
        """The test is over; its connections are closed."""
        with self._admin.connect() as connection:
            others = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name")
            connection.execute(others, {"name": self._name})
        try:
            clean = self._run(_EMPTY) == self._schema
        except DBAPIError:
            clean = False
        if not clean:
            self.drop()

    def drop(self) -> None:
        """Drop it."""
        if self._name:
            with self._admin.connect() as connection:
                connection.execute(text(f'DROP DATABASE IF EXISTS "{self._name}" WITH (FORCE)'))
        self._name = ""

    def _run(self, statement: str) -> str:
        """Run it in the database; how the schema looks then."""
        engine = create_engine(self._admin.url.set(database=self._name))
        try:
            with engine.begin() as connection:
                connection.execute(text(statement))
                return str(connection.scalar(text(_SCHEMA)))
        finally:
            engine.dispose()
