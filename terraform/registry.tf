# The registry with the two images, sluice and sluice-n8n. Apps pull with their identities; there is no admin login.

locals {
  registry_is_private = var.registry_sku == "Premium"
}

resource "azurerm_container_registry" "this" {
  #checkov:skip=CKV_AZURE_139:closed, or open to deployer_cidrs only; terraform test holds it
  #checkov:skip=CKV_AZURE_163:prod has the Premium registry, dev a cheap one
  #checkov:skip=CKV_AZURE_233:prod is zone redundant, dev is cheap
  #checkov:skip=CKV_AZURE_164:content trust is gone in azurerm 5
  #checkov:skip=CKV_AZURE_165:one region
  #checkov:skip=CKV_AZURE_166:quarantine needs a scanner that releases images
  name                          = "cr${local.plain_name}"
  resource_group_name           = azurerm_resource_group.this.name
  location                      = azurerm_resource_group.this.location
  sku                           = var.registry_sku
  admin_enabled                 = false
  anonymous_pull_enabled        = false
  public_network_access_enabled = !local.registry_is_private || length(var.deployer_cidrs) > 0 # Basic has no other
  data_endpoint_enabled         = local.registry_is_private
  zone_redundancy_enabled       = local.registry_is_private && var.zone_redundant
  retention_policy_in_days      = local.registry_is_private ? 30 : null # of manifests that no tag names

  network_rule_set = local.registry_is_private ? [{
    default_action = "Deny"
    ip_rule        = [for cidr in var.deployer_cidrs : { action = "Allow", ip_range = cidr }]
  }] : null

  tags = local.tags
}

# By itself and not in network.tf's list: it is made before the images are pushed, when little else exists.
resource "azurerm_private_endpoint" "registry" {
  count               = local.registry_is_private ? 1 : 0
  name                = "pe-${local.name}-registry"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  subnet_id           = azurerm_subnet.endpoints.id

  private_service_connection {
    name                           = "psc-${local.name}-registry"
    private_connection_resource_id = azurerm_container_registry.this.id
    subresource_names              = ["registry"]
    is_manual_connection           = false
  }
  private_dns_zone_group {
    name                 = "default"
    private_dns_zone_ids = [azurerm_private_dns_zone.this["registry"].id]
  }
  tags       = local.tags
  depends_on = [azurerm_private_dns_zone_virtual_network_link.this]
}
