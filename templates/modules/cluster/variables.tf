variable "name" {
  description = "Name of the cluster and prefix of what belongs to it."
  type        = string
}

variable "kubernetes_version" {
  description = "Kubernetes version, such as 1.33; null: what EKS gives new clusters."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets in at least two zones, for the control plane's interfaces and the nodes."
  type        = list(string)
}

variable "public_access_cidrs" {
  description = "Address ranges that may reach the API server from the internet; none: private endpoint only."
  type        = list(string)
}

variable "admin_principal_arns" {
  description = "IAM roles and users that administer the cluster beside its creator."
  type        = list(string)
}

variable "addons" {
  description = "EKS add-ons to manage: name to version, null for the default version."
  type        = map(string)
}

variable "node_instance_types" {
  description = "Instance types of the managed node group."
  type        = list(string)
}

variable "node_ami_type" {
  description = "AMI family of the nodes, AL2023 only."
  type        = string
}

variable "node_count" {
  description = "Number of nodes at creation; an autoscaler may change it afterwards."
  type        = number
}

variable "node_count_max" {
  description = "Most nodes the managed node group may have."
  type        = number
}

variable "node_disk_gib" {
  description = "Size of each node's encrypted disk, in GiB."
  type        = number
}

variable "log_retention_days" {
  description = "Days that the control plane's logs are kept."
  type        = number
}
