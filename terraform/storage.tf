# The documents: a storage account without keys and without a public address, one private container.

resource "azurerm_storage_account" "this" {
  #checkov:skip=CKV_AZURE_43:the provider checks the name, which checkov cannot work out
  #checkov:skip=CKV_AZURE_33:no queues are used
  #checkov:skip=CKV_AZURE_206:documents are kept for days; zone-redundant is enough
  #checkov:skip=CKV2_AZURE_1:Microsoft's keys are enough here
  name                             = "st${local.plain_name}"
  resource_group_name              = azurerm_resource_group.this.name
  location                         = azurerm_resource_group.this.location
  account_kind                     = "StorageV2"
  account_tier                     = "Standard"
  account_replication_type         = var.zone_redundant ? "ZRS" : "LRS"
  min_tls_version                  = "TLS1_2"
  https_traffic_only_enabled       = true
  shared_access_key_enabled        = false
  default_to_oauth_authentication  = true
  local_user_enabled               = false
  allow_nested_items_to_be_public  = false
  public_network_access_enabled    = false
  cross_tenant_replication_enabled = false

  network_rules {
    default_action = "Deny"
    bypass         = ["AzureServices"]
  }
  sas_policy {
    expiration_period = "00.01:00:00"
  }
  blob_properties {
    delete_retention_policy {
      days = var.deleted_days
    }
    container_delete_retention_policy {
      days = var.deleted_days
    }
  }
  tags = local.tags
}

resource "azurerm_storage_container" "documents" {
  #checkov:skip=CKV2_AZURE_21:the diagnostic setting in logs.tf logs reads
  name                  = "documents"
  storage_account_id    = azurerm_storage_account.this.id
  container_access_type = "private"
}

# The app deletes documents itself (KEEP_DOCUMENTS_DAYS) and writes a receipt. This is the net under it, for what a
# crash between an upload and its row, or a restored database, has left behind.
resource "azurerm_storage_management_policy" "this" {
  count              = var.keep_documents_days > 0 ? 1 : 0
  storage_account_id = azurerm_storage_account.this.id

  rule {
    name    = "forgotten-documents"
    enabled = true
    filters {
      blob_types   = ["blockBlob"]
      prefix_match = ["${azurerm_storage_container.documents.name}/"]
    }
    actions {
      base_blob {
        delete_after_days_since_modification_greater_than = var.keep_documents_days + 30
      }
    }
  }
}
