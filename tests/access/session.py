"""Login and one's own account."""

from hub.accounts.roles import Role

EVERYBODY = {role.value for role in Role}

ROUTES = {
    ("GET", "/"): "public",
    ("GET", "/login"): "public",
    ("POST", "/login"): "public",
    ("POST", "/logout"): EVERYBODY,
    ("POST", "/api/session"): "public",
    ("GET", "/account"): EVERYBODY,
    ("GET", "/nav"): EVERYBODY,
    ("POST", "/api/account/password"): EVERYBODY,
    ("DELETE", "/api/account/sessions"): EVERYBODY,
    ("POST", "/api/account/totp"): EVERYBODY,
    ("PUT", "/api/account/totp"): EVERYBODY,
    ("DELETE", "/api/account/totp"): EVERYBODY,
    ("PUT", "/api/locale"): "public",
    ("GET", "/api/live"): EVERYBODY,
}
