# Who may do what. Each part has an identity of its own, and each identity may read its own secrets one by one (not
# the vault), pull images, and do what its code does with documents. `secret_env` is the one list: the parts'
# environment, their references to the vault and their roles follow from it.

locals {
  # What Settings asks of every process of the app (docs/settings.md), but for the key where an identity is enough.
  settings_secrets = {
    DATABASE_URL      = "database-url"
    SECRET_KEY        = "secret-key"
    INTERNAL_TOKEN    = "internal-token"
    N8N_WEBHOOK_TOKEN = "n8n-webhook-token"
    OPENAI_API_KEY    = "openai-api-key"
  }
  is_keyless     = var.azure_openai_account_id != null
  app_secrets    = { for name, secret in local.settings_secrets : name => secret if !(local.is_keyless && name == "OPENAI_API_KEY") }
  traced_secrets = merge(local.app_secrets, { APPLICATIONINSIGHTS_CONNECTION_STRING = "insights-connection-string" })

  n8n_secrets = {
    DB_POSTGRESDB_PASSWORD = "n8n-database-password"
    N8N_ENCRYPTION_KEY     = "n8n-encryption-key"
  }
  queue_secrets = merge(local.n8n_secrets, {
    N8N_RUNNERS_AUTH_TOKEN    = "n8n-runners-token"
    QUEUE_BULL_REDIS_PASSWORD = "redis-password"
  })

  # part → environment variable → secret in the vault
  secret_env = {
    web       = local.traced_secrets
    internal  = local.traced_secrets
    heartbeat = local.traced_secrets
    migrate = merge(local.app_secrets, {
      PGPASSWORD             = "database-admin-password" # deploy/roles.py
      DB_POSTGRESDB_PASSWORD = "n8n-database-password"
    })
    n8n        = merge(local.queue_secrets, { N8N_INSTANCE_OWNER_PASSWORD_HASH = "n8n-owner-hash" })
    n8n-worker = local.queue_secrets
    n8n-import = merge(local.n8n_secrets, { # what n8n's three credentials are made of
      INTERNAL_TOKEN    = "internal-token"
      N8N_WEBHOOK_TOKEN = "n8n-webhook-token"
      OPENAI_API_KEY    = "openai-api-key"
    })
  }

  secret_readers = merge([
    for part, secrets in local.secret_env : {
      for secret in toset(values(secrets)) : "${part} reads ${secret}" => { part = part, secret = secret }
    }
  ]...)

  # The web app stores and shows documents, the heartbeat deletes them, the internal API only hands them out.
  document_roles = {
    web       = "Storage Blob Data Contributor"
    internal  = "Storage Blob Data Reader"
    heartbeat = "Storage Blob Data Contributor"
  }
  # Who calls Azure OpenAI with its identity: uploads of documents, files of windows, retention and lists.
  openai_parts = toset(local.is_keyless ? keys(local.document_roles) : [])
  traced_parts = toset([for part, secrets in local.secret_env : part if contains(values(secrets), "insights-connection-string")])
}

resource "azurerm_user_assigned_identity" "this" {
  for_each            = local.secret_env
  name                = "id-${local.name}-${each.key}"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  tags                = local.tags
}

resource "azurerm_role_assignment" "images" {
  for_each                         = azurerm_user_assigned_identity.this
  scope                            = azurerm_container_registry.this.id
  role_definition_name             = "AcrPull"
  principal_id                     = each.value.principal_id
  principal_type                   = "ServicePrincipal"
  skip_service_principal_aad_check = true
}

resource "azurerm_role_assignment" "secrets" {
  for_each                         = local.secret_readers
  scope                            = azurerm_key_vault_secret.this[each.value.secret].resource_versionless_id
  role_definition_name             = "Key Vault Secrets User"
  principal_id                     = azurerm_user_assigned_identity.this[each.value.part].principal_id
  principal_type                   = "ServicePrincipal"
  skip_service_principal_aad_check = true
}

resource "azurerm_role_assignment" "documents" {
  for_each                         = local.document_roles
  scope                            = azurerm_storage_container.documents.id
  role_definition_name             = each.value
  principal_id                     = azurerm_user_assigned_identity.this[each.key].principal_id
  principal_type                   = "ServicePrincipal"
  skip_service_principal_aad_check = true
}

# The account is not ours (docs/deploy.md: Azure OpenAI). "User" may ask models and read; only this role may also upload.
resource "azurerm_role_assignment" "openai" {
  for_each                         = local.openai_parts
  scope                            = var.azure_openai_account_id
  role_definition_name             = "Cognitive Services OpenAI Contributor"
  principal_id                     = azurerm_user_assigned_identity.this[each.key].principal_id
  principal_type                   = "ServicePrincipal"
  skip_service_principal_aad_check = true
}

# Application Insights takes no traces from whoever has only its connection string.
resource "azurerm_role_assignment" "traces" {
  for_each                         = local.traced_parts
  scope                            = azurerm_application_insights.this.id
  role_definition_name             = "Monitoring Metrics Publisher"
  principal_id                     = azurerm_user_assigned_identity.this[each.key].principal_id
  principal_type                   = "ServicePrincipal"
  skip_service_principal_aad_check = true
}

# A role takes a while to be known everywhere; an app that starts before would not find its image or its secrets.
resource "time_sleep" "roles" {
  create_duration = "120s"
  triggers = merge(
    { for part, role in azurerm_role_assignment.images : "${part} pulls" => role.id },
    { for reader, role in azurerm_role_assignment.secrets : reader => role.id },
  )
}
