# What must run, how often, and who is told when it does not.

run "what_runs_and_who_is_told" {
  command = plan

  # N8n is exactly one
  assert {
    condition     = azurerm_container_app.n8n.template[0].min_replicas == 1 && azurerm_container_app.n8n.template[0].max_replicas == 1
    error_message = "n8n's main instance is exactly one: a second would run every schedule twice, none would run none."
  }
  assert {
    condition     = azurerm_container_app.heartbeat.template[0].min_replicas == 1
    error_message = "The heartbeat never sleeps."
  }
  assert {
    condition     = azurerm_container_app.internal.template[0].min_replicas >= 1
    error_message = "The internal API never sleeps."
  }

  # What scales and by what
  assert {
    condition     = length(azurerm_container_app.web.template[0].http_scale_rule) == 1 && length(azurerm_container_app.internal.template[0].http_scale_rule) == 1
    error_message = "Web app and internal API scale by requests."
  }
  assert {
    condition = (
      azurerm_container_app.worker.template[0].custom_scale_rule[0].custom_rule_type == "redis"
      && azurerm_container_app.worker.template[0].custom_scale_rule[0].authentication[0].secret_name == "redis-password"
    )
    error_message = "Workers scale by the queue in Redis, with its password from the vault."
  }
  assert {
    condition     = azurerm_container_app.worker.template[0].termination_grace_period_seconds > 300 && azurerm_container_app.worker.template[0].termination_grace_period_seconds <= 600
    error_message = "A worker that is scaled in must have time for a provider call (300 s); Azure gives at most 600."
  }
  assert {
    condition     = azurerm_managed_redis.queue.default_database[0].eviction_policy == "NoEviction" && azurerm_managed_redis.queue.default_database[0].clustering_policy == "NoCluster"
    error_message = "A queue must not forget, and n8n is not in its cluster mode."
  }

  # Probes
  assert {
    condition = alltrue([
      for app in [azurerm_container_app.web, azurerm_container_app.internal] :
      app.template[0].container[0].startup_probe[0].path == "/readyz"
      && app.template[0].container[0].liveness_probe[0].path == "/healthz"
      && app.template[0].container[0].readiness_probe[0].path == "/healthz"
    ])
    error_message = "A revision starts when everything is there (/readyz) and then lives by itself (/healthz)."
  }
  assert {
    condition = alltrue([
      for app in [azurerm_container_app.n8n, azurerm_container_app.worker] :
      app.template[0].container[0].startup_probe[0].path == "/healthz/readiness"
      && app.template[0].container[0].liveness_probe[0].path == "/healthz"
    ])
    error_message = "n8n and its workers are probed."
  }

  # Commands
  assert {
    condition = (
      reverse(azurerm_container_app.web.template[0].container[0].command)[0] == "wsgi:app"
      && reverse(azurerm_container_app.internal.template[0].container[0].command)[0] == "wsgi:internal"
      && azurerm_container_app.heartbeat.template[0].container[0].command == tolist(["flask", "--app", "wsgi", "heartbeat"])
      && azurerm_container_app_job.migrate.template[0].container[0].command == tolist(["flask", "--app", "wsgi", "db", "upgrade"])
      && azurerm_container_app_job.migrate.template[0].init_container[0].command == tolist(["python", "deploy/roles.py"])
    )
    error_message = "Each part runs its own command of the one image."
  }

  # Data can be brought back
  assert {
    condition     = azurerm_postgresql_flexible_server.this.backup_retention_days >= 7
    error_message = "The database has backups."
  }
  assert {
    condition     = keys(azurerm_postgresql_flexible_server_database.this) == ["n8ndb", "sluice"]
    error_message = "The app and n8n have a database each."
  }
  assert {
    condition     = azurerm_storage_account.this.blob_properties[0].delete_retention_policy[0].days >= 7 && azurerm_key_vault.this.soft_delete_retention_days >= 7
    error_message = "A deleted document or vault can be brought back for a week."
  }
  assert {
    condition     = azurerm_storage_management_policy.this[0].rule[0].actions[0].base_blob[0].delete_after_days_since_modification_greater_than == var.keep_documents_days + 30
    error_message = "The storage rule comes after the app's own retention, not before it."
  }

  # Somebody is told
  assert {
    condition     = keys(azurerm_monitor_scheduled_query_rules_alert_v2.this) == ["failed-windows", "heartbeat", "queue-age"]
    error_message = "There is an alert for old queues, failed windows and a silent heartbeat."
  }
  assert {
    condition     = alltrue([for alert in azurerm_monitor_scheduled_query_rules_alert_v2.this : alert.enabled && strcontains(alert.criteria[0].query, "vitals")])
    error_message = "Log alerts read the heartbeat's vitals."
  }
  assert {
    condition = (
      azurerm_monitor_metric_alert.server_errors.criteria[0].metric_name == "Requests"
      && azurerm_monitor_metric_alert.server_errors.criteria[0].dimension[0].values == tolist(["5xx"])
    )
    error_message = "There is an alert for answers 5xx."
  }
  assert {
    condition     = toset(keys(azurerm_monitor_diagnostic_setting.this)) == toset(["apps", "blob", "database", "redis", "registry", "vault"])
    error_message = "Every service sends its logs."
  }
  assert {
    condition     = azurerm_container_app_environment.this.logs_destination == "azure-monitor"
    error_message = "The environment needs no workspace key."
  }
}

run "a_rollback_downgrades_by_the_same_job" {
  command = plan

  variables {
    database_revision = "0002_lives"
  }

  assert {
    condition     = azurerm_container_app_job.migrate.template[0].container[0].command == tolist(["flask", "--app", "wsgi", "db", "downgrade", "0002_lives"])
    error_message = "With database_revision the job downgrades."
  }
}

run "kept_for_ever" {
  command = plan

  variables {
    keep_documents_days = 0
  }

  assert {
    condition     = length(azurerm_storage_management_policy.this) == 0
    error_message = "With 0 no rule deletes documents."
  }
}

run "a_standby_in_a_second_zone" {
  command = plan

  variables {
    database = {
      sku         = "GP_Standard_D2ds_v5", storage_mb = 65536, backup_days = 35, geo_backup = true, standby = true
      connections = 844, app_pool_size = 8, n8n_pool_size = 10
    }
  }

  assert {
    condition     = azurerm_postgresql_flexible_server.this.high_availability[0].mode == "ZoneRedundant" && azurerm_postgresql_flexible_server.this.geo_redundant_backup_enabled
    error_message = "The standby is in another zone, backups in another region."
  }
}

run "one_name" {
  command = plan

  variables {
    project = "acme"
    suffix  = "x1"
  }

  assert {
    condition = alltrue([
      for name in [
        azurerm_resource_group.this.name, azurerm_key_vault.this.name, azurerm_postgresql_flexible_server.this.name,
        azurerm_managed_redis.queue.name, azurerm_container_app.web.name, azurerm_container_app_job.migrate.name,
      ] : strcontains(name, "acme-${var.environment}-x1")
    ])
    error_message = "Names are made from local.name."
  }
  assert {
    condition     = azurerm_storage_account.this.name == "stacme${var.environment}x1" && azurerm_container_registry.this.name == "cracme${var.environment}x1"
    error_message = "Storage and registry take no dash."
  }
}
