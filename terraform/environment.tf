# The environment that all apps and jobs run in, inside the virtual network, and how they find each other.

resource "azurerm_container_app_environment" "this" {
  name                     = "cae-${local.name}"
  resource_group_name      = azurerm_resource_group.this.name
  location                 = azurerm_resource_group.this.location
  infrastructure_subnet_id = azurerm_subnet.apps.id
  zone_redundancy_enabled  = var.zone_redundant
  logs_destination         = "azure-monitor" # by the diagnostic setting in logs.tf, so that no key is needed
  public_network_access    = "Enabled"       # people reach the web app; every other app says external_enabled = false
  mutual_tls_enabled       = false           # a preview; ingress is https between apps, too

  workload_profile {
    name                  = "Consumption"
    workload_profile_type = "Consumption"
  }
  tags = local.tags
}

locals {
  # Made from names and not from the apps themselves: each needs the others' addresses.
  domain       = azurerm_container_app_environment.this.default_domain
  public_url   = coalesce(var.public_url, "https://${local.name}-web.${local.domain}")
  internal_url = "https://${local.name}-internal.internal.${local.domain}"
  n8n_url      = "https://${local.name}-n8n.internal.${local.domain}"

  app_image = "${azurerm_container_registry.this.login_server}/sluice:${var.image_tag}"
  n8n_image = "${azurerm_container_registry.this.login_server}/sluice-n8n:${var.image_tag}"
}
