"""What the operator of this agent decided: settings, secrets in files, addresses."""

from agent.config.credentials import Private, read_credential, read_key
from agent.config.origin import DEFAULT_PORTS, Origin, parse_origin
from agent.config.settings import (
    ENVIRONMENT_PREFIX,
    FILE_SETTINGS,
    MAX_FLUSH_SECONDS,
    MIN_FLUSH_SECONDS,
    MIN_INTERVAL_SECONDS,
    POLICY,
    SETTINGS,
    Settings,
    default_state_dir,
    load_settings,
    load_spool_settings,
    read_policy,
    read_settings,
    with_policy,
)

__all__ = [
    "DEFAULT_PORTS",
    "ENVIRONMENT_PREFIX",
    "FILE_SETTINGS",
    "MAX_FLUSH_SECONDS",
    "MIN_FLUSH_SECONDS",
    "MIN_INTERVAL_SECONDS",
    "POLICY",
    "SETTINGS",
    "Origin",
    "Private",
    "Settings",
    "default_state_dir",
    "load_settings",
    "load_spool_settings",
    "parse_origin",
    "read_credential",
    "read_key",
    "read_policy",
    "read_settings",
    "with_policy",
]
