# What people and deploy/azure need to know afterwards. No secret is among them.

output "web_url" {
  description = "Where people reach the web app."
  value       = local.public_url
}

output "resource_group" {
  description = "The resource group with everything in it."
  value       = azurerm_resource_group.this.name
}

output "registry" {
  description = "Name of the registry that images are pushed to."
  value       = azurerm_container_registry.this.name
}

output "registry_server" {
  description = "First part of the images' names."
  value       = azurerm_container_registry.this.login_server
}

output "migrate_job" {
  description = "Job that makes the database roles and runs the migrations."
  value       = azurerm_container_app_job.migrate.name
}

output "n8n_import_job" {
  description = "Job that brings workflows and credentials into n8n."
  value       = azurerm_container_app_job.n8n_import.name
}

output "n8n_app" {
  description = "n8n's main instance."
  value       = azurerm_container_app.n8n.name
}

output "web_app" {
  description = "The web app, in which operators run flask's commands."
  value       = azurerm_container_app.web.name
}

output "internal_app" {
  description = "The internal API, which n8n calls."
  value       = azurerm_container_app.internal.name
}

output "heartbeat_app" {
  description = "The heartbeat."
  value       = azurerm_container_app.heartbeat.name
}

output "vault" {
  description = "The vault with every secret."
  value       = azurerm_key_vault.this.name
}

output "database_host" {
  description = "The database's name inside the network."
  value       = azurerm_postgresql_flexible_server.this.fqdn
}
