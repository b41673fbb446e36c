"""Who may do what, and what an administrator must never be able to."""

from __future__ import annotations

from hub.accounts.roles import MACHINE_SCOPES, PERMISSIONS, ROLE_NAMES, Permission, Role, permissions_of

CLINICAL = {
    Permission.EXAM_VIEW,
    Permission.IMAGES_VIEW,
    Permission.REPORT_VIEW,
    Permission.REPORT_WRITE,
    Permission.REPORT_REVIEW,
    Permission.QUEUE_VIEW,
    Permission.QUARANTINE_VIEW,
    Permission.EXAM_VERIFY,
}


def test_every_role_has_a_name_and_permissions() -> None:
    assert set(ROLE_NAMES) == set(PERMISSIONS) == set(Role)


def test_office_and_operator_see_no_clinical_content() -> None:
    for role in (Role.ADMINISTRATOR, Role.OPERATOR):
        assert not PERMISSIONS[role] & CLINICAL


def test_who_manages_accounts_is_the_office_alone() -> None:
    managing = {
        Permission.PEOPLE_MANAGE,
        Permission.ORGANISATIONS_MANAGE,
        Permission.KEYS_MANAGE,
        Permission.AUDIT_VIEW,
    }
    assert {role for role in Role if PERMISSIONS[role] & managing} == {Role.ADMINISTRATOR}


def test_machines_manage_nothing_and_have_no_account() -> None:
    for scope in MACHINE_SCOPES:
        held = permissions_of(frozenset(), frozenset({scope}))
        assert not held & {Permission.ACCOUNT_SELF, Permission.PEOPLE_MANAGE, Permission.KEYS_MANAGE}


def test_roles_add_up_and_unknown_scopes_give_nothing() -> None:
    both = permissions_of(frozenset({"reporter", "director"}))
    assert both == PERMISSIONS[Role.REPORTER] | PERMISSIONS[Role.DIRECTOR]
    assert permissions_of(frozenset(), frozenset({"everything"})) == frozenset()
