# What the variables refuse. One plan can be refused for several of them at once.

run "names_and_doors" {
  command = plan
  variables {
    environment     = "staging"
    project         = "Sluice"
    image_tag       = "latest"
    deployer_cidrs  = ["0.0.0.0/0"]
    public_url      = "http://sluice.example.org"
    address_space   = "10.0.0.0/8"
    openai_base_url = "https://api.openai.com/v1/"
  }
  expect_failures = [
    var.environment, var.project, var.image_tag, var.deployer_cidrs, var.public_url, var.address_space,
    var.openai_base_url,
  ]
}

run "secrets_providers_and_servers" {
  command = plan
  variables {
    app_settings    = { SECRET_KEY = "in the state for all to see" }
    openai_base_url = "https://acme.openai.azure.com/openai/v1"
    sync_model      = "luna"
    batch_model     = "luna" # one Azure deployment cannot be of two types
    secrets_version = 0
    database = {
      sku         = "B_Standard_B2s", storage_mb = 32768, backup_days = 7, geo_backup = false, standby = true # a B_ has none
      connections = 844, app_pool_size = 3, n8n_pool_size = 4
    }
  }
  expect_failures = [var.app_settings, var.batch_model, var.secrets_version, var.database]
}

run "an_azure_account_for_another_provider" {
  command = plan
  variables {
    azure_openai_account_id = "acme-openai" # its name is not its id
    openai_base_url         = "https://api.openai.com/v1"
  }
  expect_failures = [var.azure_openai_account_id]
}

run "sizes" {
  command = plan
  variables {
    n8n          = { cpu = 1, memory = "3Gi" } # Container Apps has no such pair
    workers      = { min = 0, max = 2, cpu = 0.5, memory = "1Gi", concurrency = 10 }
    internal     = { min = 0, max = 1, cpu = 0.5, memory = "1Gi", requests = 20 }
    logs         = { days = 7, daily_gb = 1 }
    deleted_days = 1
  }
  expect_failures = [var.n8n, var.workers, var.internal, var.logs, var.deleted_days]
}

run "more_connections_than_the_database_has" {
  command = plan
  variables {
    workers = { min = 1, max = 30, cpu = 0.5, memory = "1Gi", concurrency = 10 }
    database = {
      sku         = "B_Standard_B1ms", storage_mb = 32768, backup_days = 7, geo_backup = false, standby = false
      connections = 35, app_pool_size = 3, n8n_pool_size = 4
    }
  }
  expect_failures = [var.database]
}

run "prod_without_anybody_to_tell" {
  command = plan
  variables {
    environment  = "prod"
    alert_emails = []
  }
  expect_failures = [var.alert_emails]
}
