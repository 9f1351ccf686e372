# A cheap environment to try things in: the same parts, one of each, nothing redundant. Sizes are the defaults of
# variables.tf.
environment = "dev"
location    = "swedencentral"
delete_lock = false

openai_base_url = "https://api.openai.com/v1"
sync_model      = "gpt-6-luna"
batch_model     = "gpt-6-luna"

keep_documents_days = 7
deleted_days        = 7
