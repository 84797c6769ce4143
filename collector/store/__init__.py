"""The only door to Postgres: one function per statement. Every fault of the database leaves as DatabaseUnavailable."""
