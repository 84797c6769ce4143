"""The probe agent: measures near the users and delivers what it measured. Wired in `agent.app`."""
