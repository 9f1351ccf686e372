# What may differ between deployments. The defaults are those of a cheap environment, so dev.tfvars is short; prod.tfvars
# says what people rely on. deploy/azure gives image_tag.

# ---- Names and place

variable "project" {
  description = "First part of every name."
  type        = string
  default     = "sluice"

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,7}$", var.project))
    error_message = "project is 2 to 8 lower-case letters and digits and begins with a letter."
  }
}

variable "environment" {
  description = "Which of your environments this is: dev or prod. Second part of every name."
  type        = string
  default     = "dev"

  validation {
    condition     = contains(["dev", "prod"], var.environment)
    error_message = "environment is dev or prod."
  }
}

variable "suffix" {
  description = "Last part of every name. Registry, vault, storage, database and Redis have names that are unique in all of Azure: choose something of your own."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^([a-z0-9]{2,6})?$", var.suffix))
    error_message = "suffix is empty or 2 to 6 lower-case letters and digits."
  }
}

variable "location" {
  description = "Azure region, for example westeurope or swedencentral. With zone_redundant it must have availability zones."
  type        = string
  default     = "swedencentral"

  validation {
    condition     = can(regex("^[a-z0-9]+$", var.location))
    error_message = "location is a region's short name, such as westeurope (no spaces, no capitals)."
  }
}

variable "tags" {
  description = "Tags on every resource, besides project, environment and managed_by."
  type        = map(string)
  default     = {}
}

variable "delete_lock" {
  description = "Lock the resource group against deletion."
  type        = bool
  default     = true
}

# ---- Who deploys

variable "deployer_object_id" {
  description = "Object id of the person, group or pipeline that applies and may write secrets. Default: whoever runs Terraform. Set it when more than one does."
  type        = string
  default     = null

  validation {
    condition     = var.deployer_object_id == null || can(regex("^[0-9a-fA-F-]{36}$", var.deployer_object_id))
    error_message = "deployer_object_id is an object id of Microsoft Entra, a UUID of 36 characters."
  }
}

variable "deployer_cidrs" {
  description = "Public addresses of the machine that deploys, such as 203.0.113.7/32. The vault and the Premium registry let these in and nobody else; empty: only the private network."
  type        = list(string)
  default     = []

  validation {
    condition = alltrue([
      for cidr in var.deployer_cidrs : can(cidrhost(cidr, 0)) && try(tonumber(split("/", cidr)[1]), 0) >= 24
    ])
    error_message = "deployer_cidrs are public ranges of /24 or smaller, such as 203.0.113.7/32; 0.0.0.0/0 would open the vault to everyone."
  }
}

# ---- What runs

variable "image_tag" {
  description = "Tag of both images, sluice and sluice-n8n, in the registry. deploy/azure gives the commit; the default is no image, so that a forgotten tag fails and the running revision stays."
  type        = string
  default     = "not-built"

  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", var.image_tag)) && var.image_tag != "latest"
    error_message = "image_tag is a tag that is pushed once, such as a commit; \"latest\" could not be rolled back."
  }
}

variable "database_revision" {
  description = "Empty: the migration job upgrades to the image's newest revision. A revision: it downgrades to that one (deploy/azure rollback --downgrade-to)."
  type        = string
  default     = ""

  validation {
    condition     = can(regex("^[A-Za-z0-9_]*$", var.database_revision))
    error_message = "database_revision is the name of a revision in migrations/versions, such as 0003_money."
  }
}

variable "public_url" {
  description = "Address where people reach the web app, if it has a domain of its own. Default: the one that Azure gives it."
  type        = string
  default     = null

  validation {
    condition     = var.public_url == null || can(regex("^https://[^/]+$", var.public_url))
    error_message = "public_url begins with https:// and has no path and no slash at its end."
  }
}

variable "app_settings" {
  description = "Further settings of the app (docs/settings.md), such as { MAX_BATCH_SIZE = \"100\" }. Never a secret: those are in the vault."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.app_settings) : can(regex("^[A-Z][A-Z0-9_]*$", name))])
    error_message = "app_settings are named in capitals, as in docs/settings.md."
  }
  validation {
    condition = length(setintersection(keys(var.app_settings), [
      "DATABASE_URL", "SECRET_KEY", "INTERNAL_TOKEN", "N8N_WEBHOOK_TOKEN", "OPENAI_API_KEY",
      "STORAGE_CONNECTION_STRING", "METRICS_TOKEN", "APPLICATIONINSIGHTS_CONNECTION_STRING",
      "SECRET_KEY_PREVIOUS", "INTERNAL_TOKEN_PREVIOUS",
    ])) == 0
    error_message = "app_settings must not hold a secret: it would be in the state and in the portal. The vault has it."
  }
}

variable "web" {
  description = "The public web app: replicas (scaled by requests at the same time), vCPU and memory of one."
  type        = object({ min = number, max = number, cpu = number, memory = string, requests = number })
  default     = { min = 0, max = 1, cpu = 0.5, memory = "1Gi", requests = 20 } # sleeps when nobody comes

  validation {
    condition     = var.web.min >= 0 && var.web.max >= max(var.web.min, 1)
    error_message = "web.min is 0 or more and web.max is not below it."
  }
  validation {
    condition     = "${var.web.cpu * 2}Gi" == var.web.memory && var.web.cpu >= 0.25 && var.web.cpu <= 4
    error_message = "web.memory is twice web.cpu in Gi, such as 0.5 and \"1Gi\": Container Apps takes no other pairs."
  }
}

variable "internal" {
  description = "The internal API, which n8n calls: replicas, vCPU and memory of one. At least one always runs."
  type        = object({ min = number, max = number, cpu = number, memory = string, requests = number })
  default     = { min = 1, max = 1, cpu = 0.5, memory = "1Gi", requests = 20 }

  validation {
    condition     = var.internal.min >= 1 && var.internal.max >= var.internal.min
    error_message = "internal.min is 1 or more (n8n calls it every minute) and internal.max is not below it."
  }
  validation {
    condition     = "${var.internal.cpu * 2}Gi" == var.internal.memory && var.internal.cpu >= 0.25 && var.internal.cpu <= 4
    error_message = "internal.memory is twice internal.cpu in Gi, such as 0.5 and \"1Gi\": Container Apps takes no other pairs."
  }
}

variable "n8n" {
  description = "n8n's main instance: vCPU and memory. It is always exactly one: it owns the schedules."
  type        = object({ cpu = number, memory = string })
  default     = { cpu = 0.5, memory = "1Gi" }

  validation {
    condition     = "${var.n8n.cpu * 2}Gi" == var.n8n.memory && var.n8n.cpu >= 0.5 && var.n8n.cpu <= 4
    error_message = "n8n.memory is twice n8n.cpu in Gi, and at least 1Gi: n8n starts with 700 MB."
  }
}

variable "workers" {
  description = "n8n's workers: replicas (scaled by the length of the queue in Redis), vCPU and memory of one, executions at the same time in one."
  type        = object({ min = number, max = number, cpu = number, memory = string, concurrency = number })
  default     = { min = 1, max = 2, cpu = 0.5, memory = "1Gi", concurrency = 10 }

  validation {
    condition     = var.workers.min >= 1 && var.workers.max >= var.workers.min
    error_message = "workers.min is 1 or more (a schedule brings work every minute) and workers.max is not below it."
  }
  validation {
    condition     = "${var.workers.cpu * 2}Gi" == var.workers.memory && var.workers.cpu >= 0.5 && var.workers.cpu <= 4
    error_message = "workers.memory is twice workers.cpu in Gi, and at least 1Gi."
  }
}

# ---- The provider (docs/deploy.md: Azure OpenAI)

variable "openai_base_url" {
  description = "The provider's address: https://api.openai.com/v1, or Azure's https://<resource>.openai.azure.com/openai/v1."
  type        = string
  default     = "https://api.openai.com/v1"

  validation {
    condition     = can(regex("^https://.+/v1$", var.openai_base_url))
    error_message = "openai_base_url begins with https:// and ends in /v1 (Azure: /openai/v1), without a slash at its end."
  }
}

variable "azure_openai_account_id" {
  description = "Resource id of the Azure OpenAI account, if the app shall call it with its identities and have no key; n8n keeps the key. Null: the app has the key, too."
  type        = string
  default     = null

  validation {
    condition     = var.azure_openai_account_id == null || can(regex("^/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\\.CognitiveServices/accounts/[^/]+$", var.azure_openai_account_id))
    error_message = "azure_openai_account_id is what `az cognitiveservices account show --query id` prints."
  }
  validation {
    condition     = var.azure_openai_account_id == null || strcontains(var.openai_base_url, ".azure.com")
    error_message = "azure_openai_account_id is for Azure: openai_base_url is the address of another provider."
  }
}

variable "sync_model" {
  description = "Model of sync requests; on Azure the name of a deployment of a standard type."
  type        = string
  default     = "gpt-6-luna"

  validation {
    condition     = length(var.sync_model) > 0
    error_message = "sync_model must not be empty."
  }
}

variable "batch_model" {
  description = "Model of batch requests; on Azure the name of a deployment of type GlobalBatch or DataZoneBatch, so not that of sync_model."
  type        = string
  default     = "gpt-6-luna"

  validation {
    condition     = length(var.batch_model) > 0
    error_message = "batch_model must not be empty."
  }
  validation {
    condition     = !strcontains(var.openai_base_url, ".azure.com") || var.batch_model != var.sync_model
    error_message = "On Azure batch_model and sync_model are two deployments: one deployment has one type."
  }
}

variable "openai_api_key" {
  description = "The provider's key. Given as TF_VAR_openai_api_key when it is new, and never kept by Terraform: it goes into the vault."
  type        = string
  default     = null
  ephemeral   = true
  sensitive   = true
}

variable "openai_api_key_version" {
  description = "Raise it by one, with openai_api_key given, to write a new key into the vault."
  type        = number
  default     = 1

  validation {
    condition     = var.openai_api_key_version >= 1 && floor(var.openai_api_key_version) == var.openai_api_key_version
    error_message = "openai_api_key_version is a whole number from 1."
  }
}

variable "secrets_version" {
  description = "Raise it by one to make up every password and token anew (docs/deploy.md: rotating)."
  type        = number
  default     = 1

  validation {
    condition     = var.secrets_version >= 1 && floor(var.secrets_version) == var.secrets_version
    error_message = "secrets_version is a whole number from 1."
  }
}

# ---- Where things are kept

variable "address_space" {
  description = "Private addresses of the virtual network, a /16 that nothing it will be peered with uses."
  type        = string
  default     = "10.20.0.0/16"

  validation {
    condition     = can(cidrhost(var.address_space, 0)) && try(split("/", var.address_space)[1], "") == "16"
    error_message = "address_space is a /16, such as 10.20.0.0/16."
  }
}

variable "zone_redundant" {
  description = "Spread the apps' environment, the storage and (Premium) the registry over zones. The environment cannot change it later."
  type        = bool
  default     = false
}

variable "database" {
  description = "PostgreSQL: SKU, storage, days of backups, backups in a second region, a standby in a second zone, connections that the SKU gives to users, and what one process of the app or of n8n may hold open."
  type = object({
    sku                = string
    storage_mb         = number
    backup_days        = number
    geo_backup         = bool
    standby            = bool
    connections        = number
    app_pool_size      = number
    n8n_pool_size      = number
    maintenance_day    = optional(number, 0) # Sunday
    maintenance_hour   = optional(number, 3) # UTC
    postgresql_version = optional(string, "18")
  })
  default = {
    sku           = "B_Standard_B1ms"
    storage_mb    = 32768
    backup_days   = 7
    geo_backup    = false
    standby       = false
    connections   = 35
    app_pool_size = 3
    n8n_pool_size = 4
  }

  validation {
    condition     = var.database.backup_days >= 7 && var.database.backup_days <= 35
    error_message = "database.backup_days is 7 to 35."
  }
  validation {
    condition     = !var.database.standby || !startswith(var.database.sku, "B_")
    error_message = "database.standby needs a General Purpose or Memory Optimized SKU: a B_ one has no standby."
  }
  validation {
    condition     = tonumber(var.database.postgresql_version) >= 17
    error_message = "database.postgresql_version is 17 or newer: n8n supports no older one."
  }
  validation {
    # A pool may open two more at peaks. One process for each vCPU of the listeners, rounded up; two more: heartbeat, job.
    # While an upgrade is under way two revisions run: not counted, since pools open only what they use. If it is too
    # many for a moment, pages say that the database does not answer, and all else tries again.
    condition = var.database.connections >= (
      (var.database.app_pool_size + 2) * (
        var.web.max * ceil(var.web.cpu) + var.internal.max * ceil(var.internal.cpu) + 2
      ) + var.database.n8n_pool_size * (1 + var.workers.max)
    )
    error_message = "The pools of all replicas together may open more connections than database.connections: make replicas or pools fewer, or the SKU larger."
  }
}

variable "registry_sku" {
  description = "Basic (public address, login with Entra only) or Premium (private endpoint, zones, clean-up)."
  type        = string
  default     = "Basic"

  validation {
    condition     = contains(["Basic", "Premium"], var.registry_sku)
    error_message = "registry_sku is Basic or Premium."
  }
}

variable "redis" {
  description = "Managed Redis for n8n's queue: SKU, and whether it has a replica."
  type        = object({ sku = string, replica = bool })
  default     = { sku = "Balanced_B0", replica = false }

  validation {
    condition     = can(regex("^(Balanced_B|MemoryOptimized_M|ComputeOptimized_X)[0-9]+$", var.redis.sku))
    error_message = "redis.sku is one of Azure Managed Redis, such as Balanced_B0."
  }
}

variable "keep_documents_days" {
  description = "Days after which the app deletes documents (KEEP_DOCUMENTS_DAYS); a rule of the storage account deletes what is left 30 days later. 0 keeps them for ever."
  type        = number
  default     = 30

  validation {
    condition     = var.keep_documents_days >= 0 && var.keep_documents_days <= 36500
    error_message = "keep_documents_days is 0 to 36500."
  }
}

variable "deleted_days" {
  description = "Days in which a deleted document, secret or vault can be brought back."
  type        = number
  default     = 14

  validation {
    condition     = var.deleted_days >= 7 && var.deleted_days <= 90
    error_message = "deleted_days is 7 to 90."
  }
}

# ---- Logs and alerts

variable "logs" {
  description = "Days that logs are kept, and GB a day after which no more are taken in (-1: no limit)."
  type        = object({ days = number, daily_gb = number })
  default     = { days = 30, daily_gb = 0.5 }

  validation {
    condition     = var.logs.days >= 30 && var.logs.days <= 730
    error_message = "logs.days is 30 to 730."
  }
  validation {
    condition     = var.logs.daily_gb == -1 || var.logs.daily_gb > 0
    error_message = "logs.daily_gb is -1 (no limit) or more than 0."
  }
}

variable "alert_emails" {
  description = "Who is written to when an alert rings."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for email in var.alert_emails : can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", email))])
    error_message = "alert_emails are e-mail addresses."
  }
  validation {
    condition     = var.environment != "prod" || length(var.alert_emails) > 0
    error_message = "alert_emails must name somebody in prod: an alert that nobody gets is none."
  }
}

variable "alerts" {
  description = "When alerts ring: age of the oldest job that should be in a window by now (seconds), failed windows in an hour, minutes without a heartbeat (5, 10, 15 or 30), answers 5xx in 5 minutes."
  type = object({
    queue_age_seconds = optional(number, 7200)
    failed_windows    = optional(number, 1)
    silent_minutes    = optional(number, 15) # log lines arrive minutes late
    server_errors     = optional(number, 10)
  })
  default = {}

  validation {
    condition     = contains([5, 10, 15, 30], var.alerts.silent_minutes)
    error_message = "alerts.silent_minutes is 5, 10, 15 or 30."
  }
  validation {
    condition     = var.alerts.queue_age_seconds > 0 && var.alerts.failed_windows >= 1 && var.alerts.server_errors >= 1
    error_message = "Thresholds of alerts are more than 0."
  }
}
