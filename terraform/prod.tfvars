# An environment that people rely on: over zones, with a standby, private. Fill in what is marked.
environment = "prod"
location    = "swedencentral"

# Yours: the provider, and who is written to.
openai_base_url = "https://api.openai.com/v1"
sync_model      = "gpt-6-luna"
batch_model     = "gpt-6-luna"
alert_emails    = ["sluice-alerts@example.org"]

web      = { min = 2, max = 6, cpu = 1, memory = "2Gi", requests = 40 }
internal = { min = 2, max = 4, cpu = 1, memory = "2Gi", requests = 20 }
n8n      = { cpu = 1, memory = "2Gi" }
workers  = { min = 2, max = 10, cpu = 0.5, memory = "1Gi", concurrency = 10 }

zone_redundant = true
database = {
  sku           = "GP_Standard_D2ds_v5"
  storage_mb    = 65536
  backup_days   = 35
  geo_backup    = true
  standby       = true
  connections   = 844
  app_pool_size = 8
  n8n_pool_size = 10
}
registry_sku = "Premium"
redis        = { sku = "Balanced_B0", replica = true }

keep_documents_days = 30
deleted_days        = 90
logs                = { days = 90, daily_gb = 5 }
alerts              = { queue_age_seconds = 7200, failed_windows = 1, silent_minutes = 15, server_errors = 10 }
