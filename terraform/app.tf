# The app: one image, four commands. The web app (public), the internal API (for n8n), the heartbeat, and the job that
# makes the database roles and runs the migrations.

locals {
  web_port      = 8000
  internal_port = 8001

  app_env = merge(var.app_settings, local.openai_env, {
    ENVIRONMENT           = "production"
    PUBLIC_URL            = local.public_url
    INTERNAL_URL          = local.internal_url
    N8N_URL               = local.n8n_url
    OPENAI_BASE_URL       = var.openai_base_url
    SYNC_MODEL            = var.sync_model
    BATCH_MODEL           = var.batch_model
    STORAGE_CONTAINER_URL = "${azurerm_storage_account.this.primary_blob_endpoint}${azurerm_storage_container.documents.name}"
    DATABASE_POOL_SIZE    = tostring(var.database.app_pool_size)
    KEEP_DOCUMENTS_DAYS   = tostring(var.keep_documents_days)
  })
  # How the app itself calls the provider. n8n always has the key.
  openai_env = var.azure_openai_account_id == null ? {} : { OPENAI_AUTH = "entra" }
  # Which of an app's identities azure-identity uses.
  identity_env = { for part, identity in azurerm_user_assigned_identity.this : part => { AZURE_CLIENT_ID = identity.client_id } }

  # One process for each vCPU; where there are several each listens by itself, and the kernel
  # shares the connections out. What waits for the database or the provider waits in threads,
  # twice as many as connections: what takes an upload needs none.
  gunicorn = {
    for part, size in { web = var.web, internal = var.internal } : part => concat([
      "gunicorn", "--worker-class", "gthread", "--workers", tostring(ceil(size.cpu)), "--threads", "16",
      "--graceful-timeout", "50", "--worker-tmp-dir", "/dev/shm", "--no-control-socket", "--log-level", "warning",
    ], ceil(size.cpu) > 1 ? ["--reuse-port"] : [])
  }

  migration = var.database_revision == "" ? ["upgrade"] : ["downgrade", var.database_revision]
}

resource "azurerm_container_app" "web" {
  name                         = "${local.name}-web"
  resource_group_name          = azurerm_resource_group.this.name
  container_app_environment_id = azurerm_container_app_environment.this.id
  workload_profile_name        = "Consumption"
  revision_mode                = "Single" # the old revision serves until the new one is ready

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.this["web"].id]
  }
  registry {
    server   = azurerm_container_registry.this.login_server
    identity = azurerm_user_assigned_identity.this["web"].id
  }
  dynamic "secret" {
    for_each = toset(values(local.secret_env.web))
    content {
      name                = secret.key
      key_vault_secret_id = azurerm_key_vault_secret.this[secret.key].versionless_id
      identity            = azurerm_user_assigned_identity.this["web"].id
    }
  }

  ingress {
    external_enabled           = true
    allow_insecure_connections = false
    target_port                = local.web_port
    transport                  = "http"
    traffic_weight {
      latest_revision = true
      percentage      = 100
    }
  }

  template {
    min_replicas                     = var.web.min
    max_replicas                     = var.web.max
    termination_grace_period_seconds = 60

    http_scale_rule {
      name                = "requests"
      concurrent_requests = tostring(var.web.requests)
    }
    container {
      name    = "web"
      image   = local.app_image
      cpu     = var.web.cpu
      memory  = var.web.memory
      command = concat(local.gunicorn.web, ["--bind", "0.0.0.0:${local.web_port}", "wsgi:app"])

      dynamic "env" {
        for_each = merge(local.app_env, local.identity_env["web"])
        content {
          name  = env.key
          value = env.value
        }
      }
      dynamic "env" {
        for_each = local.secret_env.web
        content {
          name        = env.key
          secret_name = env.value
        }
      }

      # A new revision gets no traffic before database, migrations, heartbeat and n8n are there. Once it has, only the
      # process counts: pages work while n8n restarts, and say so themselves.
      startup_probe {
        transport               = "HTTP"
        path                    = "/readyz"
        port                    = local.web_port
        interval_seconds        = 10
        timeout                 = 8
        failure_count_threshold = 60
      }
      readiness_probe {
        transport               = "HTTP"
        path                    = "/healthz"
        port                    = local.web_port
        interval_seconds        = 10
        timeout                 = 5
        success_count_threshold = 1
      }
      liveness_probe {
        transport               = "HTTP"
        path                    = "/healthz"
        port                    = local.web_port
        interval_seconds        = 30
        timeout                 = 10
        failure_count_threshold = 4
      }
    }
  }

  tags       = local.tags
  depends_on = [time_sleep.roles]
}

resource "azurerm_container_app" "internal" {
  name                         = "${local.name}-internal"
  resource_group_name          = azurerm_resource_group.this.name
  container_app_environment_id = azurerm_container_app_environment.this.id
  workload_profile_name        = "Consumption"
  revision_mode                = "Single"

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.this["internal"].id]
  }
  registry {
    server   = azurerm_container_registry.this.login_server
    identity = azurerm_user_assigned_identity.this["internal"].id
  }
  dynamic "secret" {
    for_each = toset(values(local.secret_env.internal))
    content {
      name                = secret.key
      key_vault_secret_id = azurerm_key_vault_secret.this[secret.key].versionless_id
      identity            = azurerm_user_assigned_identity.this["internal"].id
    }
  }

  ingress {
    external_enabled           = false # inside the environment only
    allow_insecure_connections = false
    target_port                = local.internal_port
    transport                  = "http"
    traffic_weight {
      latest_revision = true
      percentage      = 100
    }
  }

  template {
    min_replicas                     = var.internal.min
    max_replicas                     = var.internal.max
    termination_grace_period_seconds = 60

    http_scale_rule {
      name                = "requests"
      concurrent_requests = tostring(var.internal.requests)
    }
    container {
      name    = "internal"
      image   = local.app_image
      cpu     = var.internal.cpu
      memory  = var.internal.memory
      command = concat(local.gunicorn.internal, ["--bind", "0.0.0.0:${local.internal_port}", "wsgi:internal"])

      dynamic "env" {
        for_each = merge(local.app_env, local.identity_env["internal"])
        content {
          name  = env.key
          value = env.value
        }
      }
      dynamic "env" {
        for_each = local.secret_env.internal
        content {
          name        = env.key
          secret_name = env.value
        }
      }

      startup_probe {
        transport               = "HTTP"
        path                    = "/readyz"
        port                    = local.internal_port
        interval_seconds        = 10
        timeout                 = 8
        failure_count_threshold = 60
      }
      readiness_probe {
        transport               = "HTTP"
        path                    = "/healthz"
        port                    = local.internal_port
        interval_seconds        = 10
        timeout                 = 5
        success_count_threshold = 1
      }
      liveness_probe {
        transport               = "HTTP"
        path                    = "/healthz"
        port                    = local.internal_port
        interval_seconds        = 30
        timeout                 = 10
        failure_count_threshold = 4
      }
    }
  }

  tags       = local.tags
  depends_on = [time_sleep.roles]
}

# It listens nowhere, so it has no probes: it ends when it cannot go on, and the alert "heartbeat" and /readyz tell
# when it is silent. Two may run for a moment at an upgrade; one leads.
resource "azurerm_container_app" "heartbeat" {
  name                         = "${local.name}-heartbeat"
  resource_group_name          = azurerm_resource_group.this.name
  container_app_environment_id = azurerm_container_app_environment.this.id
  workload_profile_name        = "Consumption"
  revision_mode                = "Single"

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.this["heartbeat"].id]
  }
  registry {
    server   = azurerm_container_registry.this.login_server
    identity = azurerm_user_assigned_identity.this["heartbeat"].id
  }
  dynamic "secret" {
    for_each = toset(values(local.secret_env.heartbeat))
    content {
      name                = secret.key
      key_vault_secret_id = azurerm_key_vault_secret.this[secret.key].versionless_id
      identity            = azurerm_user_assigned_identity.this["heartbeat"].id
    }
  }

  template {
    min_replicas                     = 1
    max_replicas                     = 1
    termination_grace_period_seconds = 30

    container {
      name    = "heartbeat"
      image   = local.app_image
      cpu     = 0.25
      memory  = "0.5Gi"
      command = ["flask", "--app", "wsgi", "heartbeat"]

      dynamic "env" {
        for_each = merge(local.app_env, local.identity_env["heartbeat"], { OTEL_SERVICE_NAME = "sluice-heartbeat" })
        content {
          name  = env.key
          value = env.value
        }
      }
      dynamic "env" {
        for_each = local.secret_env.heartbeat
        content {
          name        = env.key
          secret_name = env.value
        }
      }
    }
  }

  tags       = local.tags
  depends_on = [time_sleep.roles]
}

# Started by deploy/azure before the apps get a new image. Safe to start again.
resource "azurerm_container_app_job" "migrate" {
  name                         = "${local.name}-migrate"
  resource_group_name          = azurerm_resource_group.this.name
  location                     = azurerm_resource_group.this.location
  container_app_environment_id = azurerm_container_app_environment.this.id
  workload_profile_name        = "Consumption"
  replica_timeout_in_seconds   = 1800
  replica_retry_limit          = 0

  manual_trigger_config {
    parallelism              = 1
    replica_completion_count = 1
  }

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.this["migrate"].id]
  }
  registry {
    server   = azurerm_container_registry.this.login_server
    identity = azurerm_user_assigned_identity.this["migrate"].id
  }
  dynamic "secret" {
    for_each = toset(values(local.secret_env.migrate))
    content {
      name                = secret.key
      key_vault_secret_id = azurerm_key_vault_secret.this[secret.key].versionless_id
      identity            = azurerm_user_assigned_identity.this["migrate"].id
    }
  }

  template {
    # The only place that has the administrator's password.
    init_container {
      name    = "roles"
      image   = local.app_image
      cpu     = 0.25
      memory  = "0.5Gi"
      command = ["python", "deploy/roles.py"]

      dynamic "env" {
        for_each = {
          PGHOST                 = azurerm_postgresql_flexible_server.this.fqdn
          PGUSER                 = azurerm_postgresql_flexible_server.this.administrator_login
          PGSSLMODE              = "verify-full"
          PGSSLROOTCERT          = local.ca_bundle
          DB_POSTGRESDB_USER     = local.n8n_env.DB_POSTGRESDB_USER
          DB_POSTGRESDB_DATABASE = local.n8n_env.DB_POSTGRESDB_DATABASE
        }
        content {
          name  = env.key
          value = env.value
        }
      }
      dynamic "env" {
        for_each = toset(["PGPASSWORD", "DATABASE_URL", "DB_POSTGRESDB_PASSWORD"])
        content {
          name        = env.key
          secret_name = local.secret_env.migrate[env.key]
        }
      }
    }

    container {
      name    = "migrate"
      image   = local.app_image
      cpu     = 0.5
      memory  = "1Gi"
      command = concat(["flask", "--app", "wsgi", "db"], local.migration)

      dynamic "env" {
        for_each = local.app_env
        content {
          name  = env.key
          value = env.value
        }
      }
      dynamic "env" {
        for_each = local.app_secrets
        content {
          name        = env.key
          secret_name = env.value
        }
      }
    }
  }

  tags = local.tags
  depends_on = [
    time_sleep.roles,
    azurerm_postgresql_flexible_server_database.this,
    azurerm_postgresql_flexible_server_configuration.this,
  ]
}
