output "vpc_id" {
  description = "VPC of everything."
  value       = local.vpc_id
}

output "private_subnet_ids" {
  description = "Private subnets, one for each zone."
  value       = local.private_subnet_ids

  precondition {
    condition     = !var.enable_network || (var.vpc_id == null && length(var.private_subnet_ids) == 0)
    error_message = "vpc_id and private_subnet_ids name a network that is there: set enable_network = false with them."
  }
}

output "public_subnet_ids" {
  description = "Public subnets of the VPC that was made."
  value       = one(module.network[*].public_subnet_ids)
}

output "nat_public_ips" {
  description = "Addresses that the private subnets are seen with."
  value       = one(module.network[*].nat_public_ips)
}

output "cluster_name" {
  description = "Name of the EKS cluster."
  value       = one(module.cluster[*].name)
}

output "cluster_endpoint" {
  description = "Address of the Kubernetes API."
  value       = one(module.cluster[*].endpoint)
}

output "cluster_certificate_authority" {
  description = "Certificate authority of the Kubernetes API, base64 of PEM."
  value       = one(module.cluster[*].certificate_authority)
}

output "cluster_oidc_provider_arn" {
  description = "IAM identity provider for service accounts."
  value       = one(module.cluster[*].oidc_provider_arn)
}

output "service_account_role_arns" {
  description = "Roles of service_account_roles, by the names given there."
  value       = { for name, role in module.service_account_role : name => role.arn }
}

output "karpenter" {
  description = "What Karpenter's chart and its EC2NodeClass need."
  value = one([for karpenter in module.karpenter : {
    role_arn         = karpenter.role_arn
    queue_name       = karpenter.queue_name
    instance_profile = karpenter.instance_profile
    discovery_tag    = local.name
  }])
}

output "database_address" {
  description = "Host name of the database, reachable inside the VPC alone."
  value       = one(module.database[*].address)
}

output "database_port" {
  description = "Port of the database."
  value       = one(module.database[*].port)
}

output "database_master_secret_arn" {
  description = "Secret that holds the master user's name and password; whoever may read it owns the data."
  value       = one(module.database[*].master_secret_arn)
  sensitive   = true
}
