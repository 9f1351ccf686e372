# PostgreSQL: one private server with two databases. Their two roles, which cannot read each other, are made by the
# migration job (deploy/roles.py), because only the apps' subnet reaches the server.

locals {
  ca_bundle = "/etc/ssl/certs/ca-certificates.crt" # in both images; the server's certificate is checked against it
}

resource "azurerm_postgresql_flexible_server" "this" {
  #checkov:skip=CKV_AZURE_136:prod has backups in a second region, dev is cheap
  #checkov:skip=CKV2_AZURE_57:it is in a subnet of its own, which excludes a private endpoint
  name                = "psql-${local.name}"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  version             = var.database.postgresql_version
  sku_name            = var.database.sku
  storage_mb          = var.database.storage_mb
  auto_grow_enabled   = true

  backup_retention_days        = var.database.backup_days
  geo_redundant_backup_enabled = var.database.geo_backup

  delegated_subnet_id           = azurerm_subnet.database.id
  private_dns_zone_id           = azurerm_private_dns_zone.this["database"].id
  public_network_access_enabled = false

  administrator_login               = "sluice_admin"
  administrator_password_wo         = ephemeral.random_password.made_up["database-admin-password"].result
  administrator_password_wo_version = var.secrets_version
  authentication {
    password_auth_enabled         = true # n8n knows no other way
    active_directory_auth_enabled = false
  }

  dynamic "high_availability" {
    for_each = var.database.standby ? ["standby"] : []
    content {
      mode = "ZoneRedundant"
    }
  }
  maintenance_window {
    day_of_week  = var.database.maintenance_day
    start_hour   = var.database.maintenance_hour
    start_minute = 0
  }

  tags       = local.tags
  depends_on = [azurerm_private_dns_zone_virtual_network_link.this]

  lifecycle {
    ignore_changes = [zone, high_availability[0].standby_availability_zone] # a failover swaps them
  }
}

resource "azurerm_postgresql_flexible_server_database" "this" {
  for_each  = toset(["sluice", "n8ndb"])
  name      = each.key
  server_id = azurerm_postgresql_flexible_server.this.id
  charset   = "UTF8"
  collation = "en_US.utf8"
}

# No connection without TLS, and none with an old one.
resource "azurerm_postgresql_flexible_server_configuration" "this" {
  for_each = {
    require_secure_transport = "on"
    ssl_min_protocol_version = "TLSv1.2"
  }
  name      = each.key
  value     = each.value
  server_id = azurerm_postgresql_flexible_server.this.id
}
