variable "name" {
  description = "Prefix of the role's name."
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

variable "namespace" {
  description = "Kubernetes namespace of the service account."
  type        = string
}

variable "service_account" {
  description = "Name of the service account."
  type        = string
}

variable "policy_arns" {
  description = "Policies to attach."
  type        = list(string)
  default     = []
}

variable "permissions_boundary_arn" {
  description = "The most the role may ever do, whatever is attached; null: no boundary."
  type        = string
  default     = null
}
