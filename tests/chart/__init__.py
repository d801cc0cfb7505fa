"""The Helm chart: what it renders, for which values, and what it refuses."""
