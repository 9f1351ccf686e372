# Nothing but the web app is reachable from outside, and it only by https. Every run here only plans, so that
# `terraform test` never makes anything; the assertions hold for dev.tfvars and prod.tfvars alike.

run "only_the_web_app_is_reachable_and_only_by_https" {
  command = plan

  # Data is private
  assert {
    condition     = !azurerm_postgresql_flexible_server.this.public_network_access_enabled
    error_message = "The database must have no public address."
  }
  assert {
    condition     = azurerm_subnet.database.delegation[0].service_delegation[0].name == "Microsoft.DBforPostgreSQL/flexibleServers"
    error_message = "The database must be in a subnet of its own."
  }
  assert {
    condition     = endswith(azurerm_private_dns_zone.this["database"].name, ".postgres.database.azure.com")
    error_message = "Azure takes no other private zone for a flexible server."
  }
  assert {
    condition     = !azurerm_storage_account.this.public_network_access_enabled && !azurerm_storage_account.this.allow_nested_items_to_be_public
    error_message = "Documents must not be reachable from outside."
  }
  assert {
    condition     = azurerm_storage_account.this.network_rules[0].default_action == "Deny"
    error_message = "The storage account must refuse every network but its private endpoint."
  }
  assert {
    condition     = azurerm_storage_container.documents.container_access_type == "private"
    error_message = "The container of the documents must be private."
  }
  assert {
    condition     = azurerm_managed_redis.queue.public_network_access == "Disabled"
    error_message = "Redis must have no public address."
  }
  assert {
    condition     = azurerm_key_vault.this.network_acls[0].default_action == "Deny"
    error_message = "The vault must refuse every network that is not named."
  }
  assert {
    condition     = azurerm_key_vault.this.public_network_access_enabled == (length(var.deployer_cidrs) > 0)
    error_message = "Without deployer_cidrs the vault must have no public address."
  }
  assert {
    condition     = toset(keys(azurerm_private_endpoint.this)) == toset(["blob", "redis", "vault"])
    error_message = "Storage, Redis and vault are reached by private endpoints."
  }
  assert {
    condition     = alltrue([for endpoint in azurerm_private_endpoint.this : !endpoint.private_service_connection[0].is_manual_connection])
    error_message = "A private endpoint must not wait for somebody's approval."
  }

  # Only the web app is public
  assert {
    condition     = azurerm_container_app.web.ingress[0].external_enabled
    error_message = "People must reach the web app."
  }
  assert {
    condition     = !azurerm_container_app.n8n.ingress[0].external_enabled
    error_message = "n8n must not be reachable from outside the environment."
  }
  assert {
    condition     = !azurerm_container_app.internal.ingress[0].external_enabled
    error_message = "The internal API must not be reachable from outside the environment."
  }
  assert {
    condition     = length(azurerm_container_app.heartbeat.ingress) + length(azurerm_container_app.worker.ingress) == 0
    error_message = "Heartbeat and workers listen to nobody."
  }

  # Https only
  assert {
    condition = !anytrue([
      azurerm_container_app.web.ingress[0].allow_insecure_connections,
      azurerm_container_app.internal.ingress[0].allow_insecure_connections,
      azurerm_container_app.n8n.ingress[0].allow_insecure_connections,
    ])
    error_message = "Apps must refuse plain http."
  }
  assert {
    condition     = azurerm_storage_account.this.https_traffic_only_enabled && azurerm_storage_account.this.min_tls_version == "TLS1_2"
    error_message = "Storage must take TLS 1.2 or newer only."
  }
  assert {
    condition = {
      for name, setting in azurerm_postgresql_flexible_server_configuration.this : name => setting.value
    } == { require_secure_transport = "on", ssl_min_protocol_version = "TLSv1.2" }
    error_message = "The database must take TLS 1.2 or newer only."
  }
  assert {
    condition     = azurerm_managed_redis.queue.default_database[0].client_protocol == "Encrypted"
    error_message = "Redis must take TLS only."
  }
  assert {
    condition = (
      local.n8n_env.DB_POSTGRESDB_SSL_ENABLED == "true"
      && local.n8n_env.DB_POSTGRESDB_SSL_REJECT_UNAUTHORIZED == "true"
    )
    error_message = "n8n must check the database's certificate."
  }
  assert {
    condition = alltrue([
      for container in concat(azurerm_container_app_job.migrate.template[0].init_container) : anytrue([
        for env in container.env : env.name == "PGSSLMODE" && env.value == "verify-full"
      ])
    ])
    error_message = "The migration job must check the database's certificate."
  }

  # Only apps reach the data
  assert {
    condition = (
      azurerm_network_security_rule.database["rest"].access == "Deny"
      && azurerm_network_security_rule.database["rest"].source_address_prefix == "VirtualNetwork"
      && azurerm_network_security_rule.database["apps"].source_address_prefix == azurerm_subnet.apps.address_prefixes[0]
      && azurerm_network_security_rule.database["apps"].destination_port_range == "5432"
    )
    error_message = "Only the apps' subnet reaches the database, and only its port."
  }
  assert {
    condition = (
      azurerm_network_security_rule.endpoints["rest"].access == "Deny"
      && alltrue([
        for name, rule in azurerm_network_security_rule.endpoints :
        rule.access == "Deny" || rule.source_address_prefix == azurerm_subnet.apps.address_prefixes[0]
      ])
    )
    error_message = "Only the apps' subnet reaches the private endpoints."
  }
}

run "premium_registry_is_private" {
  command = plan

  variables {
    registry_sku   = "Premium"
    deployer_cidrs = []
  }

  assert {
    condition     = !azurerm_container_registry.this.public_network_access_enabled && length(azurerm_private_endpoint.registry) == 1
    error_message = "A Premium registry is reached by its private endpoint only."
  }
}

run "a_deployer_opens_a_door_for_itself_only" {
  command = plan

  variables {
    registry_sku   = "Premium"
    deployer_cidrs = ["203.0.113.7/32"]
  }

  assert {
    condition     = azurerm_key_vault.this.network_acls[0].default_action == "Deny" && azurerm_key_vault.this.network_acls[0].ip_rules == toset(["203.0.113.7/32"])
    error_message = "The vault lets the deployer in and nobody else."
  }
  assert {
    condition     = azurerm_container_registry.this.network_rule_set[0].default_action == "Deny"
    error_message = "The registry lets the deployer in and nobody else."
  }
  assert {
    condition     = !azurerm_postgresql_flexible_server.this.public_network_access_enabled && !azurerm_storage_account.this.public_network_access_enabled
    error_message = "Database and storage stay closed to the deployer, too."
  }
}
