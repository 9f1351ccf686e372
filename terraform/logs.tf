# Where logs, metrics and traces go, and which logs each service sends.

resource "azurerm_log_analytics_workspace" "this" {
  name                         = "log-${local.name}"
  resource_group_name          = azurerm_resource_group.this.name
  location                     = azurerm_resource_group.this.location
  sku                          = "PerGB2018"
  retention_in_days            = var.logs.days
  daily_quota_gb               = var.logs.daily_gb
  local_authentication_enabled = false # no workspace key: everything arrives by diagnostic settings
  tags                         = local.tags
}

resource "azurerm_application_insights" "this" {
  name                          = "appi-${local.name}"
  resource_group_name           = azurerm_resource_group.this.name
  location                      = azurerm_resource_group.this.location
  application_type              = "web"
  workspace_id                  = azurerm_log_analytics_workspace.this.id
  local_authentication_disabled = true # traces are taken from identities with a role, not from a key
  tags                          = local.tags
}

locals {
  # what → whose logs, which of them (categories, or all), and whether its metrics, too
  watched = {
    apps     = { id = azurerm_container_app_environment.this.id, categories = ["ContainerAppConsoleLogs", "ContainerAppSystemLogs"], metrics = false }
    database = { id = azurerm_postgresql_flexible_server.this.id, categories = ["PostgreSQLLogs"], metrics = true }
    vault    = { id = azurerm_key_vault.this.id, categories = ["AuditEvent"], metrics = false }
    registry = { id = azurerm_container_registry.this.id, categories = ["ContainerRegistryLoginEvents", "ContainerRegistryRepositoryEvents"], metrics = false }
    blob     = { id = "${azurerm_storage_account.this.id}/blobServices/default", categories = ["StorageRead", "StorageWrite", "StorageDelete"], metrics = false }
    redis    = { id = azurerm_managed_redis.queue.id, categories = [], metrics = true }
  }
}

resource "azurerm_monitor_diagnostic_setting" "this" {
  for_each                   = local.watched
  name                       = "diag-${local.name}-${each.key}"
  target_resource_id         = each.value.id
  log_analytics_workspace_id = azurerm_log_analytics_workspace.this.id

  dynamic "enabled_log" {
    for_each = each.value.categories
    content {
      category = enabled_log.value
    }
  }
  dynamic "enabled_metric" {
    for_each = each.value.metrics ? ["AllMetrics"] : []
    content {
      category = enabled_metric.value
    }
  }
}
