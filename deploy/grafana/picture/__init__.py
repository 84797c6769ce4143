"""Draws a dashboard without Grafana, as SVG, from the dashboard's own queries. For pictures in documents."""
