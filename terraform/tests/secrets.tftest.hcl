# No secret is in a plan, in the state or in an app's definition: apps name it, the vault has it.

run "no_secret_outside_the_vault" {
  command = plan

  # No plain secret
  assert {
    condition     = alltrue([for secret in azurerm_key_vault_secret.this : secret.value == null])
    error_message = "A vault secret must be written with value_wo: value would stay in the state."
  }
  assert {
    condition     = azurerm_postgresql_flexible_server.this.administrator_password == null
    error_message = "The administrator's password must be write-only."
  }
  assert {
    condition = alltrue(flatten([
      for app in [
        azurerm_container_app.web, azurerm_container_app.internal, azurerm_container_app.heartbeat, azurerm_container_app.n8n,
        azurerm_container_app.worker, azurerm_container_app_job.migrate, azurerm_container_app_job.n8n_import,
      ] : [for secret in app.secret : secret.value == null || secret.value == ""]
    ]))
    error_message = "An app's secret must be a reference to the vault: a plain value would stay in the state."
  }
  assert {
    condition = alltrue(flatten([
      for app in [
        azurerm_container_app.web, azurerm_container_app.internal, azurerm_container_app.heartbeat, azurerm_container_app.n8n,
        azurerm_container_app.worker, azurerm_container_app_job.migrate, azurerm_container_app_job.n8n_import,
        ] : [
        for env in flatten([for container in concat(app.template[0].container, app.template[0].init_container) : container.env]) :
        env.secret_name != null && env.secret_name != ""
        if can(regex("(^|_)(KEY|TOKEN|PASSWORD|PGPASSWORD|HASH|DATABASE_URL|CONNECTION_STRING)$", env.name))
      ]
    ]))
    error_message = "What is called a key, token, password or connection string must come from the vault."
  }

  # Each part reads its own secrets
  assert {
    condition     = [for part, secrets in local.secret_env : part if contains(values(secrets), "database-admin-password")] == ["migrate"]
    error_message = "Only the migration job may have the administrator's password."
  }
  assert {
    condition     = length(setintersection(values(local.secret_env["n8n"]), values(local.app_secrets))) == 0 && length(setintersection(values(local.secret_env["n8n-worker"]), values(local.app_secrets))) == 0
    error_message = "n8n must not have the app's secrets: its credentials are in its database, encrypted."
  }
  assert {
    condition = alltrue([
      for part in ["web", "internal", "heartbeat"] : !anytrue([for secret in values(local.secret_env[part]) : startswith(secret, "n8n-") && secret != "n8n-webhook-token"])
    ])
    error_message = "The app must not have n8n's secrets."
  }
  assert {
    condition     = setunion(flatten([for secrets in values(local.secret_env) : values(secrets)])) == setsubtract(local.secret_names, ["n8n-owner-password"])
    error_message = "Every secret is read by some part, but for the owner's password, which people read."
  }
}
