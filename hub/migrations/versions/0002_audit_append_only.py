"""The database itself refuses to change or remove audit entries

Only `seal_no` and `seal` may be set, once, by the sealer. Who owns the database can drop these triggers; the seals and
the heads outside the database (hub.audit.seal) are for him.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

_CONTENT = (
    "id",
    "at",
    "actor_kind",
    "actor_id",
    "actor_name",
    "actor_org_id",
    "ip",
    "action",
    "object_type",
    "object_id",
    "org_id",
    "patient_id",
    "detail",
)
_REFUSAL = "audit_entry is append-only"


def _postgresql() -> None:
    # JSON has no equality: its text is compared.
    same = " OR ".join(
        f"NEW.{name}::text IS DISTINCT FROM OLD.{name}::text"
        if name == "detail"
        else f"NEW.{name} IS DISTINCT FROM OLD.{name}"
        for name in _CONTENT
    )
    op.execute(
        f"""
        CREATE FUNCTION audit_entry_guard() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
          IF TG_OP = 'INSERT' THEN
            IF NEW.seal_no IS NOT NULL OR NEW.seal IS NOT NULL THEN
              RAISE EXCEPTION '{_REFUSAL}: an entry is sealed after it is written';
            END IF;
            RETURN NEW;
          END IF;
          IF TG_OP = 'UPDATE' THEN
            IF OLD.seal_no IS NULL AND OLD.seal IS NULL AND NEW.seal_no IS NOT NULL AND NEW.seal IS NOT NULL
               AND NOT ({same}) THEN
              RETURN NEW;
            END IF;
          END IF;
          RAISE EXCEPTION '{_REFUSAL}';
        END $$
        """
    )
    op.execute(
        "CREATE TRIGGER audit_entry_guard BEFORE INSERT OR UPDATE OR DELETE ON audit_entry "
        "FOR EACH ROW EXECUTE FUNCTION audit_entry_guard()"
    )
    op.execute(
        "CREATE TRIGGER audit_entry_guard_all BEFORE TRUNCATE ON audit_entry "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_entry_guard()"
    )


def _sqlite() -> None:
    other = " OR ".join(f'NEW."{name}" IS NOT OLD."{name}"' for name in _CONTENT)
    op.execute(
        f"""
        CREATE TRIGGER audit_entry_no_forged_seal BEFORE INSERT ON audit_entry
        WHEN NEW.seal_no IS NOT NULL OR NEW.seal IS NOT NULL
        BEGIN SELECT RAISE(ABORT, '{_REFUSAL}: an entry is sealed after it is written'); END
        """
    )
    op.execute(
        f"""
        CREATE TRIGGER audit_entry_no_update BEFORE UPDATE ON audit_entry
        WHEN OLD.seal_no IS NOT NULL OR OLD.seal IS NOT NULL OR NEW.seal_no IS NULL OR NEW.seal IS NULL OR {other}
        BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END
        """
    )
    op.execute(
        f"""
        CREATE TRIGGER audit_entry_no_delete BEFORE DELETE ON audit_entry
        BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END
        """
    )


def upgrade() -> None:
    """Apply."""
    if op.get_bind().dialect.name == "postgresql":
        _postgresql()
    else:
        _sqlite()
