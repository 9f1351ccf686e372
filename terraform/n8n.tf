# n8n in queue mode: one main instance (webhooks, schedules), workers that run the executions, and the job that brings
# workflows and credentials in. Nothing of it is reachable from outside the environment.

locals {
  n8n_port = 5678

  # As n8n/settings.env has it for the local n8n and compose; tests/contract/test_terraform.py keeps them the same.
  n8n_env = {
    TZ                                          = "UTC"
    GENERIC_TIMEZONE                            = "UTC"
    NODE_OPTIONS                                = "--max-old-space-size=768"
    N8N_LISTEN_ADDRESS                          = "0.0.0.0"
    N8N_WORKER_SERVER_ADDRESS                   = "0.0.0.0"
    N8N_RUNNERS_BROKER_LISTEN_ADDRESS           = "127.0.0.1"
    N8N_RUNNERS_MODE                            = "external"
    N8N_EXPRESSION_ENGINE                       = "legacy"
    N8N_BLOCK_ENV_ACCESS_IN_NODE                = "true"
    N8N_PUBLIC_API_DISABLED                     = "true"
    N8N_DISABLED_MODULES                        = "insights,external-secrets,community-packages,mcp,mcp-registry,chat-hub,instance-ai,agents,workflow-builder,ldap,sso-oidc,sso-saml,source-control,quick-connect,breaking-changes,n8n-packages,data-table,token-exchange,otel"
    N8N_METRICS                                 = "false"
    N8N_DIAGNOSTICS_ENABLED                     = "false"
    N8N_VERSION_NOTIFICATIONS_ENABLED           = "false"
    N8N_VERSION_NOTIFICATIONS_WHATS_NEW_ENABLED = "false"
    N8N_TEMPLATES_ENABLED                       = "false"
    N8N_PERSONALIZATION_ENABLED                 = "false"
    N8N_HIRING_BANNER_ENABLED                   = "false"
    N8N_DYNAMIC_BANNERS_ENABLED                 = "false"
    N8N_COMMUNITY_PACKAGES_ENABLED              = "false"
    N8N_LICENSE_AUTO_RENEW_ENABLED              = "false"
    N8N_LOG_FORMAT                              = "json"
    N8N_LOG_LEVEL                               = "warn"
    EXECUTIONS_DATA_SAVE_ON_SUCCESS             = "none"
    EXECUTIONS_DATA_SAVE_ON_ERROR               = "all"
    EXECUTIONS_DATA_PRUNE                       = "true"
    EXECUTIONS_DATA_MAX_AGE                     = "168"

    DB_TYPE                               = "postgresdb"
    DB_POSTGRESDB_HOST                    = azurerm_postgresql_flexible_server.this.fqdn
    DB_POSTGRESDB_PORT                    = "5432"
    DB_POSTGRESDB_DATABASE                = "n8ndb"
    DB_POSTGRESDB_USER                    = "n8n"
    DB_POSTGRESDB_POOL_SIZE               = tostring(var.database.n8n_pool_size)
    DB_POSTGRESDB_SSL_ENABLED             = "true"
    DB_POSTGRESDB_SSL_REJECT_UNAUTHORIZED = "true"
  }

  queue_env = merge(local.n8n_env, {
    EXECUTIONS_MODE                           = "queue"
    OFFLOAD_MANUAL_EXECUTIONS_TO_WORKERS      = "true"
    QUEUE_BULL_REDIS_HOST                     = azurerm_managed_redis.queue.hostname
    QUEUE_BULL_REDIS_PORT                     = tostring(local.redis_port)
    QUEUE_BULL_REDIS_TLS                      = "true"
    QUEUE_BULL_REDIS_TLS_VALIDATE_CERTIFICATE = "true"
  })
  redis_port = 10000 # of every managed Redis

  # Longer than a provider call (300 s): a worker that is scaled in finishes what it runs.
  drain_seconds = 320
}

resource "azurerm_container_app" "n8n" {
  name                         = "${local.name}-n8n"
  resource_group_name          = azurerm_resource_group.this.name
  container_app_environment_id = azurerm_container_app_environment.this.id
  workload_profile_name        = "Consumption"
  revision_mode                = "Single"

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.this["n8n"].id]
  }
  registry {
    server   = azurerm_container_registry.this.login_server
    identity = azurerm_user_assigned_identity.this["n8n"].id
  }
  dynamic "secret" {
    for_each = toset(values(local.secret_env.n8n))
    content {
      name                = secret.key
      key_vault_secret_id = azurerm_key_vault_secret.this[secret.key].versionless_id
      identity            = azurerm_user_assigned_identity.this["n8n"].id
    }
  }

  ingress {
    external_enabled           = false # inside the environment only
    allow_insecure_connections = false
    target_port                = local.n8n_port
    transport                  = "http"
    traffic_weight {
      latest_revision = true
      percentage      = 100
    }
  }

  template {
    min_replicas                     = 1 # exactly one: a second would run every schedule twice
    max_replicas                     = 1
    termination_grace_period_seconds = 60

    container {
      name   = "n8n"
      image  = local.n8n_image
      cpu    = var.n8n.cpu
      memory = var.n8n.memory
      args   = ["start"]

      dynamic "env" {
        for_each = merge(local.queue_env, {
          N8N_PORT                          = tostring(local.n8n_port)
          N8N_PROXY_HOPS                    = "1"
          N8N_EDITOR_BASE_URL               = local.n8n_url
          N8N_WEBHOOK_URL                   = local.n8n_url
          N8N_INSTANCE_OWNER_MANAGED_BY_ENV = "true"
          N8N_INSTANCE_OWNER_EMAIL          = "owner@sluice.local"
          N8N_INSTANCE_OWNER_FIRST_NAME     = "Sluice"
          N8N_INSTANCE_OWNER_LAST_NAME      = "Owner"
        })
        content {
          name  = env.key
          value = env.value
        }
      }
      dynamic "env" {
        for_each = local.secret_env.n8n
        content {
          name        = env.key
          secret_name = env.value
        }
      }

      startup_probe {
        transport               = "HTTP"
        path                    = "/healthz/readiness"
        port                    = local.n8n_port
        interval_seconds        = 5
        timeout                 = 4
        failure_count_threshold = 60
      }
      readiness_probe {
        transport               = "HTTP"
        path                    = "/healthz/readiness"
        port                    = local.n8n_port
        interval_seconds        = 10
        timeout                 = 5
        success_count_threshold = 1
      }
      liveness_probe {
        transport               = "HTTP"
        path                    = "/healthz"
        port                    = local.n8n_port
        interval_seconds        = 30
        timeout                 = 10
        failure_count_threshold = 4
      }
    }
  }

  tags       = local.tags
  depends_on = [time_sleep.roles, azurerm_postgresql_flexible_server_database.this, azurerm_private_endpoint.this]
}

resource "azurerm_container_app" "worker" {
  name                         = "${local.name}-n8n-worker"
  resource_group_name          = azurerm_resource_group.this.name
  container_app_environment_id = azurerm_container_app_environment.this.id
  workload_profile_name        = "Consumption"
  revision_mode                = "Single"

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.this["n8n-worker"].id]
  }
  registry {
    server   = azurerm_container_registry.this.login_server
    identity = azurerm_user_assigned_identity.this["n8n-worker"].id
  }
  dynamic "secret" {
    for_each = toset(values(local.secret_env.n8n-worker))
    content {
      name                = secret.key
      key_vault_secret_id = azurerm_key_vault_secret.this[secret.key].versionless_id
      identity            = azurerm_user_assigned_identity.this["n8n-worker"].id
    }
  }

  template {
    min_replicas                     = var.workers.min
    max_replicas                     = var.workers.max
    polling_interval_in_seconds      = 10
    cooldown_period_in_seconds       = 300
    termination_grace_period_seconds = local.drain_seconds + 20

    # KEDA reads the length of Bull's list of waiting jobs: one more worker for each `concurrency` that wait.
    custom_scale_rule {
      name             = "queue"
      custom_rule_type = "redis"
      metadata = {
        address    = "${azurerm_managed_redis.queue.hostname}:${local.redis_port}"
        listName   = "bull:jobs:wait"
        listLength = tostring(var.workers.concurrency)
        enableTLS  = "true"
        unsafeSsl  = "false"
      }
      authentication {
        secret_name       = "redis-password"
        trigger_parameter = "password"
      }
    }

    container {
      name   = "worker"
      image  = local.n8n_image
      cpu    = var.workers.cpu
      memory = var.workers.memory
      args   = ["worker", "--concurrency=${var.workers.concurrency}"]

      dynamic "env" {
        for_each = merge(local.queue_env, {
          QUEUE_HEALTH_CHECK_ACTIVE     = "true"
          QUEUE_HEALTH_CHECK_PORT       = tostring(local.n8n_port)
          N8N_GRACEFUL_SHUTDOWN_TIMEOUT = tostring(local.drain_seconds)
        })
        content {
          name  = env.key
          value = env.value
        }
      }
      dynamic "env" {
        for_each = local.secret_env.n8n-worker
        content {
          name        = env.key
          secret_name = env.value
        }
      }

      startup_probe {
        transport               = "HTTP"
        path                    = "/healthz/readiness"
        port                    = local.n8n_port
        interval_seconds        = 5
        timeout                 = 4
        failure_count_threshold = 60
      }
      liveness_probe {
        transport               = "HTTP"
        path                    = "/healthz"
        port                    = local.n8n_port
        interval_seconds        = 30
        timeout                 = 10
        failure_count_threshold = 4
      }
    }
  }

  tags       = local.tags
  depends_on = [time_sleep.roles, azurerm_postgresql_flexible_server_database.this, azurerm_private_endpoint.this]
}

# Started by deploy/azure after every change of the image: it writes the three credentials, imports the workflows of the
# image with the internal API's address in them, and publishes them.
resource "azurerm_container_app_job" "n8n_import" {
  name                         = "${local.name}-n8n-import"
  resource_group_name          = azurerm_resource_group.this.name
  location                     = azurerm_resource_group.this.location
  container_app_environment_id = azurerm_container_app_environment.this.id
  workload_profile_name        = "Consumption"
  replica_timeout_in_seconds   = 900
  replica_retry_limit          = 1

  manual_trigger_config {
    parallelism              = 1
    replica_completion_count = 1
  }

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.this["n8n-import"].id]
  }
  registry {
    server   = azurerm_container_registry.this.login_server
    identity = azurerm_user_assigned_identity.this["n8n-import"].id
  }
  dynamic "secret" {
    for_each = toset(values(local.secret_env.n8n-import))
    content {
      name                = secret.key
      key_vault_secret_id = azurerm_key_vault_secret.this[secret.key].versionless_id
      identity            = azurerm_user_assigned_identity.this["n8n-import"].id
    }
  }

  template {
    container {
      name   = "import"
      image  = local.n8n_image
      cpu    = 0.5
      memory = "1Gi"
      args   = ["import"]

      dynamic "env" {
        for_each = merge(local.n8n_env, {
          INTERNAL_URL    = local.internal_url
          OPENAI_BASE_URL = var.openai_base_url
        })
        content {
          name  = env.key
          value = env.value
        }
      }
      dynamic "env" {
        for_each = local.secret_env.n8n-import
        content {
          name        = env.key
          secret_name = env.value
        }
      }
    }
  }

  tags       = local.tags
  depends_on = [time_sleep.roles, azurerm_postgresql_flexible_server_database.this]
}
