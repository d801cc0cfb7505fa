"""The AWS templates under the real provider, through real agents, against moto's server."""
