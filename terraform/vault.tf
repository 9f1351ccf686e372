# The vault and every secret in it. Values are write-only: Terraform makes them up or is handed them, writes them into
# the vault, and keeps them neither in its state nor in a plan. Apps read them by reference, with their identities.

locals {
  # Secrets that are made up here. `secrets_version` + 1 makes them all up anew.
  made_up = toset([
    "database-admin-password", # administrator of the server; only the migration job has it
    "database-password",       # role sluice, inside database-url
    "n8n-database-password",   # role n8n
    "secret-key",              # signs sessions
    "internal-token",          # n8n → internal API
    "n8n-webhook-token",       # app → n8n
    "n8n-encryption-key",      # n8n's credentials in its database
    "n8n-runners-token",       # n8n → its task runners (none run)
    "n8n-owner-password",      # the owner's login in n8n's editor; only people read it
  ])

  # name in the vault → value. The value is ephemeral: it can go nowhere but into a write-only argument.
  secret_values = {
    database-admin-password = ephemeral.random_password.made_up["database-admin-password"].result
    database-url = join("", [
      "postgresql+psycopg://sluice:", ephemeral.random_password.made_up["database-password"].result,
      "@", azurerm_postgresql_flexible_server.this.fqdn, ":5432/sluice?sslmode=verify-full&sslrootcert=", local.ca_bundle,
    ])
    n8n-database-password      = ephemeral.random_password.made_up["n8n-database-password"].result
    secret-key                 = ephemeral.random_password.made_up["secret-key"].result
    internal-token             = ephemeral.random_password.made_up["internal-token"].result
    n8n-webhook-token          = ephemeral.random_password.made_up["n8n-webhook-token"].result
    n8n-encryption-key         = ephemeral.random_password.made_up["n8n-encryption-key"].result
    n8n-runners-token          = ephemeral.random_password.made_up["n8n-runners-token"].result
    n8n-owner-password         = ephemeral.random_password.made_up["n8n-owner-password"].result
    n8n-owner-hash             = ephemeral.random_password.made_up["n8n-owner-password"].bcrypt_hash
    openai-api-key             = var.openai_api_key == null ? "not given" : var.openai_api_key # deploy/azure asks for it
    redis-password             = azurerm_managed_redis.queue.default_database[0].primary_access_key
    insights-connection-string = azurerm_application_insights.this.connection_string
  }

  secret_names = toset([
    "database-admin-password", "database-url", "n8n-database-password", "secret-key", "internal-token",
    "n8n-webhook-token", "n8n-encryption-key", "n8n-runners-token", "n8n-owner-password", "n8n-owner-hash",
    "openai-api-key", "redis-password", "insights-connection-string",
  ])
}

resource "azurerm_key_vault" "this" {
  #checkov:skip=CKV_AZURE_189:closed, or open to deployer_cidrs only; terraform test holds it
  name                          = "kv-${local.name}"
  resource_group_name           = azurerm_resource_group.this.name
  location                      = azurerm_resource_group.this.location
  tenant_id                     = data.azurerm_client_config.current.tenant_id
  sku_name                      = "standard"
  rbac_authorization_enabled    = true
  purge_protection_enabled      = true
  soft_delete_retention_days    = var.deleted_days
  public_network_access_enabled = length(var.deployer_cidrs) > 0 # and then for those addresses only

  network_acls {
    default_action = "Deny"
    bypass         = "AzureServices"
    ip_rules       = var.deployer_cidrs
  }
  tags = local.tags
}

# Whoever applies writes the secrets.
resource "azurerm_role_assignment" "deployer" {
  scope                = azurerm_key_vault.this.id
  role_definition_name = "Key Vault Secrets Officer"
  principal_id         = coalesce(var.deployer_object_id, data.azurerm_client_config.current.object_id)
}

# A role takes a while to be known everywhere.
resource "time_sleep" "deployer" {
  create_duration = "60s"
  triggers        = { role = azurerm_role_assignment.deployer.id }
}

ephemeral "random_password" "made_up" {
  for_each = local.made_up
  length   = 40
  special  = false # they go into addresses, too
}

resource "azurerm_key_vault_secret" "this" {
  #checkov:skip=CKV_AZURE_41:an expired secret would stop the system; secrets_version rotates them
  for_each         = local.secret_names
  name             = each.key
  key_vault_id     = azurerm_key_vault.this.id
  content_type     = "text/plain"
  value_wo         = local.secret_values[each.key]
  value_wo_version = each.key == "openai-api-key" ? var.openai_api_key_version : var.secrets_version
  tags             = local.tags
  depends_on       = [time_sleep.deployer, azurerm_private_endpoint.this]
}
