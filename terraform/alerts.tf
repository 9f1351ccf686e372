# What wakes somebody up. Three alerts read the line "vitals" that the leading heartbeat logs each minute (docs/deploy.md
# has its fields), one the answers of the web app. docs/runbook.md says what to do for each.

resource "azurerm_monitor_action_group" "this" {
  name                = "ag-${local.name}"
  resource_group_name = azurerm_resource_group.this.name
  short_name          = substr(local.plain_name, 0, 12)

  dynamic "email_receiver" {
    for_each = toset(var.alert_emails)
    content {
      name                    = email_receiver.key
      email_address           = email_receiver.key
      use_common_alert_schema = true
    }
  }
  tags = local.tags
}

locals {
  vitals = <<-KQL
    ContainerAppConsoleLogs
    | where ContainerAppName == "${azurerm_container_app.heartbeat.name}"
    | extend line = parse_json(Log)
    | where tostring(line.event) == "vitals"
  KQL

  log_alerts = {
    queue-age = {
      says     = "Jobs wait for a window that should be open by now."
      severity = 2
      window   = "PT10M"
      every    = "PT5M"
      query    = "${local.vitals}| summarize value = max(tolong(line.queue_age_seconds))"
      measure  = "Maximum"
      operator = "GreaterThan"
      than     = var.alerts.queue_age_seconds
    }
    failed-windows = {
      says     = "Windows end without answers."
      severity = 2
      window   = "PT1H"
      every    = "PT15M"
      query    = "${local.vitals}| summarize value = sum(tolong(line.windows_failed))"
      measure  = "Maximum"
      operator = "GreaterThanOrEqual"
      than     = var.alerts.failed_windows
    }
    heartbeat = {
      says     = "The heartbeat is silent: nothing is repeated, no deadline is kept."
      severity = 1
      window   = "PT${var.alerts.silent_minutes}M"
      every    = "PT5M"
      query    = "${local.vitals}| summarize value = count()" # one row, also when there is none to count
      measure  = "Maximum"
      operator = "LessThan"
      than     = 1
    }
  }
}

resource "azurerm_monitor_scheduled_query_rules_alert_v2" "this" {
  for_each                = local.log_alerts
  name                    = "alert-${local.name}-${each.key}"
  resource_group_name     = azurerm_resource_group.this.name
  location                = azurerm_resource_group.this.location
  description             = each.value.says
  severity                = each.value.severity
  scopes                  = [azurerm_log_analytics_workspace.this.id]
  window_duration         = each.value.window
  evaluation_frequency    = each.value.every
  auto_mitigation_enabled = true
  skip_query_validation   = true # the table is not there before the first line

  criteria {
    query                   = each.value.query
    time_aggregation_method = each.value.measure
    metric_measure_column   = "value"
    operator                = each.value.operator
    threshold               = each.value.than
    failing_periods {
      number_of_evaluation_periods             = 1
      minimum_failing_periods_to_trigger_alert = 1
    }
  }
  action {
    action_groups = [azurerm_monitor_action_group.this.id]
  }
  tags       = local.tags
  depends_on = [azurerm_monitor_diagnostic_setting.this]
}

resource "azurerm_monitor_metric_alert" "server_errors" {
  name                = "alert-${local.name}-server-errors"
  resource_group_name = azurerm_resource_group.this.name
  description         = "The web app answers with errors."
  severity            = 2
  scopes              = [azurerm_container_app.web.id]
  frequency           = "PT1M"
  window_size         = "PT5M"

  criteria {
    metric_namespace = "Microsoft.App/containerApps"
    metric_name      = "Requests"
    aggregation      = "Total"
    operator         = "GreaterThanOrEqual"
    threshold        = var.alerts.server_errors
    dimension {
      name     = "statusCodeCategory"
      operator = "Include"
      values   = ["5xx"]
    }
  }
  action {
    action_group_id = azurerm_monitor_action_group.this.id
  }
  tags = local.tags
}
