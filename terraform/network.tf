# The private network: one subnet for the apps, one for the database, one for private endpoints, and the names by which
# the apps find what is behind them.

locals {
  subnets = {
    apps      = cidrsubnet(var.address_space, 7, 0)   # /23, the apps' environment
    database  = cidrsubnet(var.address_space, 11, 16) # /27
    endpoints = cidrsubnet(var.address_space, 11, 17) # /27
  }

  # The names of private endpoints are fixed by Azure; the database's own zone only has to end as it does.
  zones = merge({
    blob     = "privatelink.blob.core.windows.net"
    vault    = "privatelink.vaultcore.azure.net"
    redis    = "privatelink.redis.azure.net"
    database = "${local.name}.private.postgres.database.azure.com"
  }, local.registry_is_private ? { registry = "privatelink.azurecr.io" } : {})

  endpoints = {
    blob  = { target = azurerm_storage_account.this.id, part = "blob" }
    vault = { target = azurerm_key_vault.this.id, part = "vault" }
    redis = { target = azurerm_managed_redis.queue.id, part = "redisEnterprise" }
  }
}

resource "azurerm_virtual_network" "this" {
  name                = "vnet-${local.name}"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  address_space       = [var.address_space]
  tags                = local.tags
}

resource "azurerm_subnet" "apps" {
  #checkov:skip=CKV2_AZURE_31:Container Apps manages this subnet's traffic; nothing listens here but its ingress
  name                 = "snet-${local.name}-apps"
  resource_group_name  = azurerm_resource_group.this.name
  virtual_network_name = azurerm_virtual_network.this.name
  address_prefixes     = [local.subnets.apps]

  delegation {
    name = "apps"
    service_delegation {
      name    = "Microsoft.App/environments"
      actions = ["Microsoft.Network/virtualNetworks/subnets/join/action"]
    }
  }
}

resource "azurerm_subnet" "database" {
  name                            = "snet-${local.name}-database"
  resource_group_name             = azurerm_resource_group.this.name
  virtual_network_name            = azurerm_virtual_network.this.name
  address_prefixes                = [local.subnets.database]
  default_outbound_access_enabled = false

  delegation {
    name = "database"
    service_delegation {
      name    = "Microsoft.DBforPostgreSQL/flexibleServers"
      actions = ["Microsoft.Network/virtualNetworks/subnets/join/action"]
    }
  }
}

resource "azurerm_subnet" "endpoints" {
  name                              = "snet-${local.name}-endpoints"
  resource_group_name               = azurerm_resource_group.this.name
  virtual_network_name              = azurerm_virtual_network.this.name
  address_prefixes                  = [local.subnets.endpoints]
  private_endpoint_network_policies = "NetworkSecurityGroupEnabled"
  default_outbound_access_enabled   = false
}

# Only the apps reach the database.
resource "azurerm_network_security_group" "database" {
  name                = "nsg-${local.name}-database"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  tags                = local.tags
}

resource "azurerm_network_security_rule" "database" {
  for_each = {
    apps    = { priority = 100, access = "Allow", from = local.subnets.apps, ports = "5432" }
    standby = { priority = 110, access = "Allow", from = local.subnets.database, ports = "5432" } # replication
    rest    = { priority = 4000, access = "Deny", from = "VirtualNetwork", ports = "*" }
  }
  name                        = each.key
  resource_group_name         = azurerm_resource_group.this.name
  network_security_group_name = azurerm_network_security_group.database.name
  priority                    = each.value.priority
  direction                   = "Inbound"
  access                      = each.value.access
  protocol                    = each.value.access == "Allow" ? "Tcp" : "*"
  source_address_prefix       = each.value.from
  source_port_range           = "*"
  destination_address_prefix  = local.subnets.database
  destination_port_range      = each.value.ports
}

resource "azurerm_subnet_network_security_group_association" "database" {
  subnet_id                 = azurerm_subnet.database.id
  network_security_group_id = azurerm_network_security_group.database.id
}

# Only the apps reach storage, vault, registry (443) and Redis (10000); a deployment machine in a peered network, too,
# once it has a rule of its own here.
resource "azurerm_network_security_group" "endpoints" {
  name                = "nsg-${local.name}-endpoints"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  tags                = local.tags
}

resource "azurerm_network_security_rule" "endpoints" {
  for_each = {
    https = { priority = 100, access = "Allow", from = local.subnets.apps, ports = "443" }
    redis = { priority = 110, access = "Allow", from = local.subnets.apps, ports = "10000" }
    rest  = { priority = 4000, access = "Deny", from = "VirtualNetwork", ports = "*" }
  }
  name                        = each.key
  resource_group_name         = azurerm_resource_group.this.name
  network_security_group_name = azurerm_network_security_group.endpoints.name
  priority                    = each.value.priority
  direction                   = "Inbound"
  access                      = each.value.access
  protocol                    = each.value.access == "Allow" ? "Tcp" : "*"
  source_address_prefix       = each.value.from
  source_port_range           = "*"
  destination_address_prefix  = local.subnets.endpoints
  destination_port_range      = each.value.ports
}

resource "azurerm_subnet_network_security_group_association" "endpoints" {
  subnet_id                 = azurerm_subnet.endpoints.id
  network_security_group_id = azurerm_network_security_group.endpoints.id
}

resource "azurerm_private_dns_zone" "this" {
  for_each            = local.zones
  name                = each.value
  resource_group_name = azurerm_resource_group.this.name
  tags                = local.tags
}

resource "azurerm_private_dns_zone_virtual_network_link" "this" {
  for_each              = local.zones
  name                  = "link-${local.name}-${each.key}"
  resource_group_name   = azurerm_resource_group.this.name
  private_dns_zone_name = azurerm_private_dns_zone.this[each.key].name
  virtual_network_id    = azurerm_virtual_network.this.id
  tags                  = local.tags
}

resource "azurerm_private_endpoint" "this" {
  for_each            = local.endpoints
  name                = "pe-${local.name}-${each.key}"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  subnet_id           = azurerm_subnet.endpoints.id

  private_service_connection {
    name                           = "psc-${local.name}-${each.key}"
    private_connection_resource_id = each.value.target
    subresource_names              = [each.value.part]
    is_manual_connection           = false
  }
  private_dns_zone_group {
    name                 = "default"
    private_dns_zone_ids = [azurerm_private_dns_zone.this[each.key].id]
  }
  tags       = local.tags
  depends_on = [azurerm_private_dns_zone_virtual_network_link.this]
}
