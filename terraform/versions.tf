# Versions, providers, and where the state lives. The state's account is named by `-backend-config` (deploy/azure does
# it), so that one directory serves every environment. Commit the .terraform.lock.hcl that your first `init` writes.

terraform {
  required_version = "~> 1.11" # write-only arguments and ephemeral values

  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = "~> 4.73"
    }
    random = {
      source  = "hashicorp/random"
      version = "~> 3.7"
    }
    time = {
      source  = "hashicorp/time"
      version = "~> 0.13"
    }
  }

  backend "azurerm" {
    use_azuread_auth = true # the state's account has no keys either
  }
}

provider "azurerm" {
  storage_use_azuread             = true # the storage account has no keys
  resource_provider_registrations = "none"
  resource_providers_to_register = [
    "Microsoft.App", "Microsoft.Cache", "Microsoft.ContainerRegistry", "Microsoft.DBforPostgreSQL", "Microsoft.Insights",
    "Microsoft.KeyVault", "Microsoft.ManagedIdentity", "Microsoft.Network", "Microsoft.OperationalInsights",
    "Microsoft.Storage",
  ]

  features {
    storage {
      data_plane_available = false # else it polls the account's endpoints, which are private, and fails
    }
    key_vault {
      purge_soft_delete_on_destroy    = false # purge protection is on
      recover_soft_deleted_key_vaults = true
    }
  }
}
