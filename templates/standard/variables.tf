variable "project_name" {
  description = "First part of every name; lower case, since names of databases are."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]*(-[a-z0-9]+)*$", var.project_name)) && length(var.project_name) <= 24
    error_message = "The project name must have at most 24 lower case letters and digits, with single hyphens inside, and begin with a letter."
  }
}

variable "environment" {
  description = "Second part of every name, such as dev or prod."
  type        = string
  default     = "dev"

  validation {
    condition     = can(regex("^[a-z0-9]+(-[a-z0-9]+)*$", var.environment)) && length(var.environment) <= 16
    error_message = "The environment must have at most 16 lower case letters and digits, with single hyphens inside."
  }
}

variable "region" {
  description = "AWS region."
  type        = string

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "The region must be the name of one, such as eu-central-1."
  }
}

variable "tags" {
  description = "Tags of everything, beside Project, Environment and ManagedBy."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for key in keys(var.tags) : !startswith(lower(key), "aws:")])
    error_message = "Tags that begin with aws: are reserved."
  }
}

# Which parts there are.

variable "enable_network" {
  description = "Make a VPC; if not, vpc_id and private_subnet_ids name one."
  type        = bool
  default     = true
}

variable "enable_cluster" {
  description = "Make an EKS cluster with a managed node group."
  type        = bool
  default     = true
}

variable "enable_karpenter" {
  description = "Make what Karpenter needs of AWS; only with the cluster. Its chart is installed separately."
  type        = bool
  default     = true
}

variable "enable_database" {
  description = "Make a PostgreSQL database on RDS."
  type        = bool
  default     = true
}

# Network

variable "vpc_id" {
  description = "VPC to use where none is made."
  type        = string
  default     = null

  validation {
    condition     = var.vpc_id == null || can(regex("^vpc-[0-9a-f]+$", var.vpc_id))
    error_message = "The VPC must be an id such as vpc-0a1b2c3d."
  }
}

variable "private_subnet_ids" {
  description = "Private subnets of that VPC, in at least two zones, with a way out to the internet."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for id in var.private_subnet_ids : can(regex("^subnet-[0-9a-f]+$", id))])
    error_message = "Each subnet must be an id such as subnet-0a1b2c3d."
  }
}

variable "vpc_cidr" {
  description = "Address range of the VPC that is made, /16 to /20; must not overlap with networks you will peer with."
  type        = string
  default     = "10.0.0.0/16"

  validation {
    condition     = can(cidrhost(var.vpc_cidr, 0)) && can(regex("/(1[6-9]|20)$", var.vpc_cidr))
    error_message = "The VPC's range must be an IPv4 range between /16 and /20, such as 10.0.0.0/16."
  }
}

variable "az_count" {
  description = "Availability zones of the VPC that is made: 2 or 3."
  type        = number
  default     = 3

  validation {
    condition     = contains([2, 3], var.az_count)
    error_message = "The number of zones must be 2 or 3."
  }
}

variable "nat" {
  description = "Way out of the private subnets: \"single\" NAT gateway, one \"per_az\" (outlives the loss of a zone, costs as many times more), or \"none\" (nodes then need VPC endpoints)."
  type        = string
  default     = "single"

  validation {
    condition     = contains(["single", "per_az", "none"], var.nat)
    error_message = "NAT must be single, per_az or none."
  }
}

variable "flow_logs" {
  description = "Log every connection of the VPC to CloudWatch."
  type        = bool
  default     = true
}

# Cluster

variable "kubernetes_version" {
  description = "Kubernetes version, such as 1.33; null: what EKS gives new clusters on that day, and no upgrade by us."
  type        = string
  default     = null

  validation {
    condition     = var.kubernetes_version == null || can(regex("^1\\.[0-9]{2}$", var.kubernetes_version))
    error_message = "The Kubernetes version must be a minor one, such as 1.33."
  }
}

variable "cluster_public_access_cidrs" {
  description = "Address ranges that may reach the Kubernetes API from the internet; none: only from inside the VPC."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for cidr in var.cluster_public_access_cidrs : can(cidrhost(cidr, 0)) && !endswith(cidr, "/0")])
    error_message = "Each range must be CIDR, such as 203.0.113.7/32, and must not be the whole internet."
  }
}

variable "cluster_admin_arns" {
  description = "IAM roles and users that administer the cluster, beside whoever creates it."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for arn in var.cluster_admin_arns : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:(role|user)/", arn))])
    error_message = "Each administrator must be the ARN of an IAM role or user."
  }
}

variable "cluster_addons" {
  description = "EKS add-ons to manage, name to version (null: the default one), such as {\"vpc-cni\": null}; without them EKS installs its own copies of vpc-cni, kube-proxy and coredns, which nobody upgrades."
  type        = map(string)
  default     = {}
}

variable "node_instance_types" {
  description = "Instance types of the managed node group."
  type        = list(string)
  default     = ["m6i.large"]

  validation {
    condition     = length(var.node_instance_types) > 0
    error_message = "Name at least one instance type."
  }
}

variable "node_ami_type" {
  description = "AMI family of the nodes: AL2023_x86_64_STANDARD or, for Graviton, AL2023_ARM_64_STANDARD."
  type        = string
  default     = "AL2023_x86_64_STANDARD"

  validation {
    condition     = contains(["AL2023_x86_64_STANDARD", "AL2023_ARM_64_STANDARD"], var.node_ami_type)
    error_message = "The AMI family must be AL2023_x86_64_STANDARD or AL2023_ARM_64_STANDARD."
  }
}

variable "node_count" {
  description = "Least number of nodes of the managed node group, and the number it begins with."
  type        = number
  default     = 2

  validation {
    condition     = var.node_count >= 1 && floor(var.node_count) == var.node_count
    error_message = "The number of nodes must be a whole number from 1."
  }
}

variable "node_count_max" {
  description = "Most nodes of the managed node group; not below node_count."
  type        = number
  default     = 4

  validation {
    condition     = var.node_count_max >= 1 && floor(var.node_count_max) == var.node_count_max
    error_message = "The most nodes must be a whole number from 1."
  }
}

variable "node_disk_gib" {
  description = "Size of each node's encrypted disk, in GiB."
  type        = number
  default     = 50

  validation {
    condition     = var.node_disk_gib >= 20
    error_message = "A node needs a disk of at least 20 GiB."
  }
}

variable "log_retention_days" {
  description = "Days that logs are kept in CloudWatch; one of the numbers that CloudWatch knows, such as 30, 90 or 365."
  type        = number
  default     = 90

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "CloudWatch keeps logs for 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288 or 3653 days."
  }
}

variable "service_account_roles" {
  description = "IAM roles for service accounts (IRSA), by a name of your choice."
  type = map(object({
    namespace       = string
    service_account = string
    policy_arns     = list(string)
  }))
  default = {}

  validation {
    condition     = alltrue([for role in var.service_account_roles : can(regex("^[a-z0-9-]+$", role.namespace)) && can(regex("^[a-z0-9.-]+$", role.service_account))])
    error_message = "Namespace and service account must be names, without wildcards."
  }
}

# Karpenter

variable "karpenter_namespace" {
  description = "Kubernetes namespace that Karpenter is installed in."
  type        = string
  default     = "kube-system"
}

variable "karpenter_service_account" {
  description = "Karpenter's service account."
  type        = string
  default     = "karpenter"
}

# Database

variable "database_engine_version" {
  description = "Version of PostgreSQL: a major one such as 17 (RDS upgrades the minor) or an exact one."
  type        = string
  default     = "17"

  validation {
    condition     = can(regex("^1[3-9](\\.[0-9]+)?$", var.database_engine_version))
    error_message = "The version of PostgreSQL must be such as 17 or 17.5."
  }
}

variable "database_instance_class" {
  description = "Instance class of the database."
  type        = string
  default     = "db.t4g.medium"

  validation {
    condition     = startswith(var.database_instance_class, "db.")
    error_message = "The instance class must begin with db."
  }
}

variable "database_storage_gib" {
  description = "Storage at creation, in GiB."
  type        = number
  default     = 20

  validation {
    condition     = var.database_storage_gib >= 20
    error_message = "gp3 storage begins at 20 GiB."
  }
}

variable "database_storage_max_gib" {
  description = "Most storage RDS may grow to by itself, in GiB; above database_storage_gib."
  type        = number
  default     = 100

  validation {
    condition     = var.database_storage_max_gib > 20
    error_message = "The most storage must be above 20 GiB."
  }
}

variable "database_name" {
  description = "Name of the first database."
  type        = string
  default     = "app"

  validation {
    condition     = can(regex("^[a-z][a-z0-9_]{0,62}$", var.database_name))
    error_message = "The database's name must be lower case letters, digits and underscores, and begin with a letter."
  }
}

variable "database_master_username" {
  description = "Name of the master user; Secrets Manager makes and rotates its password."
  type        = string
  default     = "dbadmin"

  validation {
    condition     = can(regex("^[a-z][a-z0-9_]{0,62}$", var.database_master_username)) && !contains(["admin", "rdsadmin", "postgres"], var.database_master_username)
    error_message = "The master user's name must be lower case letters, digits and underscores, and neither admin, rdsadmin nor postgres."
  }
}

variable "database_client_security_group_ids" {
  description = "Security groups that may connect beside the cluster's nodes, by a name of your choice."
  type        = map(string)
  default     = {}
}

variable "database_multi_az" {
  description = "Keep a standby in a second zone; doubles the price."
  type        = bool
  default     = false
}

variable "database_backup_retention_days" {
  description = "Days that automated backups are kept, 1 to 35."
  type        = number
  default     = 14

  validation {
    condition     = var.database_backup_retention_days >= 1 && var.database_backup_retention_days <= 35
    error_message = "Backups are kept for 1 to 35 days."
  }
}

variable "database_deletion_protection" {
  description = "Refuse to delete the database; DESTROY fails until a run with false has been applied."
  type        = bool
  default     = true
}

variable "database_skip_final_snapshot" {
  description = "Delete the database without a last snapshot (<name>-final)."
  type        = bool
  default     = false
}
