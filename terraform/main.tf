# The name of everything, the tags, and the resource group.

locals {
  # Every resource's name is made from this, and nothing else names one.
  name = join("-", compact([var.project, var.environment, var.suffix]))
  # For the registry and the storage account, whose names take no dash.
  plain_name = replace(local.name, "-", "")

  tags = merge(var.tags, { project = var.project, environment = var.environment, managed_by = "terraform" })
}

data "azurerm_client_config" "current" {}

resource "azurerm_resource_group" "this" {
  name     = "rg-${local.name}"
  location = var.location
  tags     = local.tags
}

# Nobody deletes the database or the vault by mistake, in the portal or here.
resource "azurerm_management_lock" "this" {
  count      = var.delete_lock ? 1 : 0
  name       = "lock-${local.name}"
  scope      = azurerm_resource_group.this.id
  lock_level = "CanNotDelete"
  notes      = "Set delete_lock = false and apply before you take this environment down."
}
