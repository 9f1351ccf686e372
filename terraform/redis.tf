# The queue between n8n's main instance and its workers. It holds what is under way, no truth: if it is lost, the app
# dispatches again.

resource "azurerm_managed_redis" "queue" {
  name                      = "redis-${local.name}"
  resource_group_name       = azurerm_resource_group.this.name
  location                  = azurerm_resource_group.this.location
  sku_name                  = var.redis.sku
  high_availability_enabled = var.redis.replica
  public_network_access     = "Disabled"

  default_database {
    access_keys_authentication_enabled = true # n8n knows no other way; docs/deploy.md says what that means for the state
    client_protocol                    = "Encrypted"
    clustering_policy                  = "NoCluster"  # else n8n would need its cluster mode
    eviction_policy                    = "NoEviction" # a queue must not forget
  }
  tags = local.tags
}
