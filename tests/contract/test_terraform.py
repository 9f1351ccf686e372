"""What Terraform sets agrees with what the app and n8n read; and, where terraform-check is, the whole of it holds.

terraform-check (beside this checkout) runs the real validate, plan and test on the provider's real schema, offline.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from devstack.n8n import FIXED_ENVIRONMENT
from webapp.config import ROOT, Settings

TERRAFORM = ROOT / "terraform"
CHECK = ROOT.parent / "shared/terraform-check/check"
TEXTS = {path.name: path.read_text() for path in sorted(TERRAFORM.glob("*.tf"))}

# Read by libraries, not by Settings.
READ_BY_LIBRARIES = {"AZURE_CLIENT_ID"}
# Secrets that the app has elsewhere only: identities reach the documents, and Azure's own metrics are watched. What
# the vault made up before is known to nobody: there all secrets change at once (docs/deploy.md: rotating).
NOT_ON_AZURE = {"STORAGE_CONNECTION_STRING", "METRICS_TOKEN", "SECRET_KEY_PREVIOUS", "INTERNAL_TOKEN_PREVIOUS"}
# What the local n8n has because it is local: loopback, plain http, a quick stop, one locale.
LOCAL_ONLY = {"LANG", "N8N_LISTEN_ADDRESS", "N8N_SECURE_COOKIE", "N8N_GRACEFUL_SHUTDOWN_TIMEOUT"}
# Names that are not made from local.name, because they live inside something that is.
INNER_NAMES = {
    "azurerm_key_vault_secret", "azurerm_network_security_rule", "azurerm_postgresql_flexible_server_configuration",
    "azurerm_postgresql_flexible_server_database", "azurerm_private_dns_zone", "azurerm_storage_container",
}  # fmt: skip
SECRET_WORDS = re.compile(r"password|secret|token|key|hash", re.IGNORECASE)

needs_check = pytest.mark.skipif(not CHECK.exists(), reason="terraform-check is not beside this checkout")


def between(name: str, start: str, end: str = "\n  }") -> str:
    """The part of a Terraform file from a line that contains `start` to the next line that is `end`."""
    text = TEXTS[name]
    begin = text.index(start)
    return text[begin : text.index(end, begin)]


def keys(block: str) -> set[str]:
    """The upper-case keys of a map."""
    return set(re.findall(r"\b([A-Z][A-Z0-9_]+)\s+=", block))


def resources() -> list[tuple[str, str, str]]:
    """(type, label, body) of every resource."""
    found = (re.findall(r'^resource "(\w+)" "(\w+)" \{\n(.*?)^\}', text, re.M | re.S) for text in TEXTS.values())
    return [resource for file in found for resource in file]


def app_variables() -> set[str]:
    plain = keys(between("app.tf", "app_env = merge(")) | keys(between("app.tf", "openai_env =", "\n"))
    secret = keys(between("identities.tf", "settings_secrets = {"))
    return plain | secret | {"APPLICATIONINSIGHTS_CONNECTION_STRING", "AZURE_CLIENT_ID"}


def test_every_variable_that_the_app_is_given_is_a_setting() -> None:
    settings = {field.upper() for field in Settings.model_fields}
    assert app_variables() - settings <= READ_BY_LIBRARIES


def test_the_app_is_given_every_setting_that_it_asks_for() -> None:
    required = {name.upper() for name, field in Settings.model_fields.items() if field.is_required()}
    assert required | {"STORAGE_CONTAINER_URL"} <= app_variables()
    assert not {"STORAGE_DIR", "STORAGE_CONNECTION_STRING"} & app_variables()  # exactly one of these three


def test_every_setting_that_is_a_secret_comes_from_the_vault() -> None:
    secret = {name.upper() for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)}
    traced = {"APPLICATIONINSIGHTS_CONNECTION_STRING"}  # web, internal API and heartbeat only
    assert secret - NOT_ON_AZURE == keys(between("identities.tf", "settings_secrets = {")) | traced


def test_n8n_is_set_as_it_is_locally() -> None:
    block = between("n8n.tf", "n8n_env = {")
    given = dict(
        re.findall(
            r'([A-Z][A-Z0-9_]+)\s+= "([^"$]*)"', block + between("n8n.tf", "for_each = merge(local.queue_env", "})")
        )
    )
    wanted = {name: value for name, value in FIXED_ENVIRONMENT.items() if name not in LOCAL_ONLY}
    assert {name: given.get(name) for name in wanted} == wanted


def test_no_secret_of_the_app_can_be_given_as_a_plain_setting() -> None:
    secret = {name.upper() for name, field in Settings.model_fields.items() if "Secret" in str(field.annotation)}
    refused = between("variables.tf", "setintersection(keys(var.app_settings), [", "\n    ])")
    assert secret == set(re.findall(r'"([A-Z0-9_]+)"', refused))


def test_no_variable_has_a_secret_as_its_default() -> None:
    variables = re.findall(r'^variable "(\w+)" \{\n(.*?)^\}', TEXTS["variables.tf"], re.M | re.S)
    for name, body in variables:
        if SECRET_WORDS.search(name) and not name.endswith("_version"):
            assert "default     = null" in body and "ephemeral   = true" in body and "sensitive   = true" in body, name
    for path in TERRAFORM.glob("*.tfvars"):
        named = re.findall(r"^\s*(\w+)\s*=", path.read_text(), re.M)
        assert not [name for name in named if SECRET_WORDS.search(name)], path.name


def test_no_secret_is_written_with_a_value_that_stays() -> None:
    for name, text in TEXTS.items():
        assert not re.search(r"^\s*(administrator_password|primary_access_key)\s+=", text, re.M), name
    for kind, label, body in resources():
        if kind == "azurerm_key_vault_secret":
            assert not re.search(r"^\s*value\s+=", body, re.M), label
        for block in re.findall(r'dynamic "secret" \{.*?\n  \}\n', body, re.S):
            assert "value  " not in block and "key_vault_secret_id" in block, label


def test_every_name_is_made_from_the_one_name() -> None:
    for kind, label, body in resources():
        name = re.search(r"^  name\s+= (.*)$", body, re.M)
        if name and kind not in INNER_NAMES:
            assert "local.name" in name[1] or "local.plain_name" in name[1], f"{kind}.{label}: {name[1]}"


def test_every_file_says_what_lives_there_and_every_variable_what_it_is() -> None:
    for path in [*TERRAFORM.glob("*.tf"), *TERRAFORM.glob("*.tfvars"), *TERRAFORM.glob("tests/*.hcl")]:
        assert path.read_text().startswith("# "), path.name
    for kind in ("variable", "output"):
        text = TEXTS[f"{kind}s.tf"]
        for name, body in re.findall(rf'^{kind} "(\w+)" \{{\n(.*?)^\}}', text, re.M | re.S):
            assert re.search(r'^  description = ".+\."$', body, re.M), name


def test_the_log_alerts_read_what_the_docs_promise() -> None:
    read = set(re.findall(r"line\.(\w+)", TEXTS["alerts.tf"]))
    page = (ROOT / "docs/deploy.md").read_text()
    assert read == {"event", "queue_age_seconds", "windows_failed"}
    assert all(f'"{field}"' in page for field in read)


def check(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(CHECK), str(TERRAFORM), *arguments], capture_output=True, text=True, check=False)


@needs_check
def test_a_cheap_environment_validates_plans_and_passes_terraforms_own_tests() -> None:
    done = check("--test", "--var-file", str(TERRAFORM / "dev.tfvars"))
    assert done.returncode == 0, done.stdout[-4000:]


@needs_check
def test_production_is_spread_out_locked_and_its_plan_holds_no_secret(tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    done = check("--var-file", str(TERRAFORM / "prod.tfvars"), "--plan-json", str(plan))
    assert done.returncode == 0, done.stdout[-4000:]
    resources = json.loads(plan.read_text())["planned_values"]["root_module"]["resources"]
    secrets = [one["values"] for one in resources if one["type"] == "azurerm_key_vault_secret"]
    assert secrets and all(one.get("value") is None and one.get("value_wo") is None for one in secrets)
    of_apps = [secret for one in resources for secret in one["values"].get("secret") or []]
    assert of_apps and not any(secret.get("value") for secret in of_apps)
    by_type = {one["type"]: one["values"] for one in resources}
    database, registry = by_type["azurerm_postgresql_flexible_server"], by_type["azurerm_container_registry"]
    assert database["geo_redundant_backup_enabled"] and database["high_availability"][0]["mode"] == "ZoneRedundant"
    assert registry["zone_redundancy_enabled"] and not registry["public_network_access_enabled"]
    assert by_type["azurerm_management_lock"]["lock_level"] == "CanNotDelete"


@needs_check
def test_what_must_never_be_is_refused(tmp_path: Path) -> None:
    """The assertions in terraform/tests bite; here, one of them."""
    changed = copy_terraform(
        tmp_path, {"n8n.tf": ("external_enabled           = false", "external_enabled           = true")}
    )
    done = subprocess.run(
        [str(CHECK), str(changed), "--no-plan", "--test"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "n8n must not be reachable from outside" in done.stdout


def copy_terraform(tmp_path: Path, changes: dict[str, tuple[str, str]]) -> Path:
    target = tmp_path / "terraform"
    (target / "tests").mkdir(parents=True)
    for path in TERRAFORM.glob("*.tf"):
        text = path.read_text()
        old, new = changes.get(path.name, ("", ""))
        assert old in text
        (target / path.name).write_text(text.replace(old, new) if old else text)
    (target / "tests/private.tftest.hcl").write_text((TERRAFORM / "tests/private.tftest.hcl").read_text())
    return target
