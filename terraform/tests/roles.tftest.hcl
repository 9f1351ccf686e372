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
