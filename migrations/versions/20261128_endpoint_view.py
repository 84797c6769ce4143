"""The view v_endpoint: where endpoints and sites stand, for dashboards that reckon with distance. Expand: new."""

from typing import Final

from alembic import op

revision = "20261128_endpoint_view"
down_revision = "20261128_narrow"
branch_labels = None
depends_on = None

# No URL: one may hold what is nobody's business.
VIEW: Final = """
CREATE VIEW v_endpoint AS
SELECT e.name AS endpoint, e.provider, e.model, e.endpoint_region, e.latitude, e.longitude, e.simulated
FROM endpoint e
"""


def upgrade() -> None:
    """Add it."""
    op.execute(VIEW)


def downgrade() -> None:
    """Take it away."""
    op.execute("DROP VIEW v_endpoint")
