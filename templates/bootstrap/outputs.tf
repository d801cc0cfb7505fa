output "region" {
  description = "Region of the cluster."
  value       = var.region
}

output "vpc_id" {
  description = "VPC of the cluster, given or made."
  value       = local.make_network ? module.network[0].vpc_id : var.vpc_id
}

output "private_subnet_ids" {
  description = "Private subnets of the cluster."
  value       = local.private_subnet_ids

  precondition {
    condition     = !local.make_network || length(var.private_subnet_ids) == 0
    error_message = "private_subnet_ids are those of a given VPC: name it in vpc_id."
  }
}

output "cluster_name" {
  description = "Name of the EKS cluster."
  value       = module.cluster.name
}

output "cluster_arn" {
  description = "ARN of the EKS cluster."
  value       = module.cluster.arn
}

output "cluster_version" {
  description = "Kubernetes version that runs."
  value       = module.cluster.version
}

output "cluster_endpoint" {
  description = "Address of the Kubernetes API."
  value       = module.cluster.endpoint
}

output "cluster_endpoint_is_public" {
  description = "Whether the Kubernetes API can be reached from outside the VPC at all."
  value       = length(var.cluster_public_access_cidrs) > 0
}

output "cluster_certificate_authority" {
  description = "Certificate authority of the Kubernetes API, base64 of PEM."
  value       = module.cluster.certificate_authority
}

output "oidc_issuer" {
  description = "Issuer of service account tokens, without its scheme."
  value       = module.cluster.oidc_issuer
}

output "oidc_provider_arn" {
  description = "IAM identity provider for service accounts."
  value       = module.cluster.oidc_provider_arn
}

output "agent_role_arn" {
  description = "Role for the annotation eks.amazonaws.com/role-arn of the agent's service account."
  value       = module.agent_role.arn
}

output "agent_namespace" {
  description = "Namespace that the role's trust policy names."
  value       = var.agent_namespace
}

output "agent_service_account" {
  description = "Service account that the role's trust policy names."
  value       = var.agent_service_account
}
