# Each part has an identity of its own, and that may do its work and no more.

run "narrow_roles_and_no_keys" {
  command = plan

  # An identity for each part
  assert {
    condition = toset(keys(azurerm_user_assigned_identity.this)) == toset([
      "web", "internal", "heartbeat", "migrate", "n8n", "n8n-worker", "n8n-import",
    ])
    error_message = "Every app and job has an identity of its own."
  }
  assert {
    condition = alltrue([
      for app in [
        azurerm_container_app.web, azurerm_container_app.internal, azurerm_container_app.heartbeat, azurerm_container_app.n8n,
        azurerm_container_app.worker, azurerm_container_app_job.migrate, azurerm_container_app_job.n8n_import,
      ] : app.identity[0].type == "UserAssigned"
    ])
    error_message = "An app's identity is user-assigned: its roles must be there before it starts."
  }

  # The narrowest roles
  assert {
    condition     = toset([for role in azurerm_role_assignment.images : role.role_definition_name]) == toset(["AcrPull"])
    error_message = "Apps pull images and do nothing else in the registry."
  }
  assert {
    condition     = toset([for role in azurerm_role_assignment.secrets : role.role_definition_name]) == toset(["Key Vault Secrets User"])
    error_message = "Apps read secrets and do nothing else in the vault."
  }
  assert {
    condition     = toset(keys(azurerm_role_assignment.secrets)) == toset(keys(local.secret_readers)) && !contains(keys(azurerm_role_assignment.secrets), "web reads database-admin-password")
    error_message = "A role is for one secret, and only for the parts that have it in their environment."
  }
  assert {
    condition = { for part, role in azurerm_role_assignment.documents : part => role.role_definition_name } == {
      web       = "Storage Blob Data Contributor"
      internal  = "Storage Blob Data Reader"
      heartbeat = "Storage Blob Data Contributor"
    }
    error_message = "Only the web app, the heartbeat and (reading) the internal API touch documents."
  }
  assert {
    condition     = azurerm_role_assignment.deployer.role_definition_name == "Key Vault Secrets Officer"
    error_message = "Whoever applies writes secrets, and needs no more."
  }

  # No shared keys
  assert {
    condition     = !azurerm_container_registry.this.admin_enabled && !azurerm_container_registry.this.anonymous_pull_enabled
    error_message = "The registry has no admin login and lets nobody pull without one."
  }
  assert {
    condition = alltrue([
      !azurerm_storage_account.this.shared_access_key_enabled,
      !azurerm_storage_account.this.local_user_enabled,
      azurerm_storage_account.this.default_to_oauth_authentication,
    ])
    error_message = "Storage is reached with an identity only."
  }
  assert {
    condition     = azurerm_key_vault.this.rbac_authorization_enabled && azurerm_key_vault.this.purge_protection_enabled
    error_message = "The vault goes by roles, and nobody empties it for good."
  }
  assert {
    condition     = !azurerm_log_analytics_workspace.this.local_authentication_enabled && azurerm_application_insights.this.local_authentication_disabled
    error_message = "Logs and traces are taken from identities only."
  }
}

run "the_app_calls_azure_openai_with_its_identities" {
  command = plan
  variables {
    azure_openai_account_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/acme/providers/Microsoft.CognitiveServices/accounts/acme-openai"
    openai_base_url         = "https://acme-openai.openai.azure.com/openai/v1"
    sync_model              = "luna"
    batch_model             = "luna-batch"
  }
  assert {
    condition = { for part, role in azurerm_role_assignment.openai : part => [role.scope, role.role_definition_name] } == {
      for part in ["web", "internal", "heartbeat"] : part => [var.azure_openai_account_id, "Cognitive Services OpenAI Contributor"]
    }
    error_message = "Web app, internal API and heartbeat call Azure OpenAI, in this one account, and nobody else does."
  }
  assert {
    condition     = local.app_env["OPENAI_AUTH"] == "entra"
    error_message = "The app is told to use its identity."
  }
  assert {
    condition     = [for reader, _ in local.secret_readers : reader if endswith(reader, "openai-api-key")] == ["n8n-import reads openai-api-key"]
    error_message = "Where an identity is enough, only n8n's import reads the key."
  }
}

run "without_an_account_the_app_has_the_key" {
  command = plan
  assert {
    condition     = length(azurerm_role_assignment.openai) == 0 && !contains(keys(local.app_env), "OPENAI_AUTH")
    error_message = "Without an account's id no role is given, and the app uses its key."
  }
  assert {
    condition     = contains(keys(local.secret_readers), "internal reads openai-api-key")
    error_message = "The app has the key if it is to use it."
  }
}
