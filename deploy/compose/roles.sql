-- Who may do what in the database; Postgres runs this once, when its volume is new.
SET log_min_error_statement = panic; -- a statement that fails must not show its password in the log
\set owner_password `cat /run/secrets/database_owner_password`
\set grafana_password `cat /run/secrets/database_grafana_password`

-- The collector owns its database, and is no superuser.
CREATE ROLE isochrone LOGIN PASSWORD :'owner_password';
ALTER DATABASE isochrone OWNER TO isochrone;

-- Grafana reads the views that the collector gives to this role, and nothing else.
CREATE ROLE isochrone_read NOLOGIN;
CREATE ROLE grafana LOGIN PASSWORD :'grafana_password' IN ROLE isochrone_read;
ALTER ROLE grafana SET default_transaction_read_only = on;
ALTER ROLE grafana SET statement_timeout = '30s';
