variable "cluster_name" {
  description = "Name of the EKS cluster."
  type        = string
}

variable "cluster_arn" {
  description = "ARN of the EKS cluster."
  type        = string
}

variable "cluster_security_group_id" {
  description = "The security group of the cluster's nodes."
  type        = string
}

variable "oidc_provider_arn" {
  description = "ARN of the cluster's IAM identity provider."
  type        = string
}

variable "oidc_issuer" {
  description = "Issuer of the cluster's tokens, without its scheme."
  type        = string
}

variable "node_role_name" {
  description = "Name of the role that Karpenter's nodes get."
  type        = string
}

variable "node_role_arn" {
  description = "ARN of the role that Karpenter's nodes get."
  type        = string
}

variable "namespace" {
  description = "Kubernetes namespace that Karpenter is installed in."
  type        = string
}

variable "service_account" {
  description = "Karpenter's service account."
  type        = string
}
