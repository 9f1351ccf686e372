-- compose.yml: what a new PostgreSQL gets at its first start. The roles come from deploy/roles.py.
CREATE DATABASE sluice;
CREATE DATABASE n8ndb;
