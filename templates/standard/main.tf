# An environment: network, Kubernetes, Karpenter's side of AWS, database. Each part has a switch.

provider "aws" {
  region = var.region

  default_tags {
    tags = merge(var.tags, {
      Project     = var.project_name
      Environment = var.environment
      ManagedBy   = "tendril"
    })
  }
}

locals {
  name = "${var.project_name}-${var.environment}"

  vpc_id             = var.enable_network ? module.network[0].vpc_id : var.vpc_id
  private_subnet_ids = var.enable_network ? module.network[0].private_subnet_ids : data.aws_subnet.given[*].id

  with_karpenter = var.enable_karpenter && var.enable_cluster
}

# What is given is looked up, so that a mistake is found before anything is made.
data "aws_subnet" "given" {
  count = var.enable_network ? 0 : length(var.private_subnet_ids)

  id = var.private_subnet_ids[count.index]

  lifecycle {
    postcondition {
      condition     = self.vpc_id == var.vpc_id
      error_message = "Subnet ${self.id} of private_subnet_ids is in ${self.vpc_id}, which is not vpc_id."
    }

    postcondition {
      condition     = !self.map_public_ip_on_launch
      error_message = "Subnet ${self.id} gives public addresses: private_subnet_ids must be private."
    }
  }
}

module "network" {
  source = "../modules/network"
  count  = var.enable_network ? 1 : 0

  name               = local.name
  cidr               = var.vpc_cidr
  az_count           = var.az_count
  nat                = var.nat
  flow_logs          = var.flow_logs
  log_retention_days = var.log_retention_days

  # By these tags load balancer controllers and Karpenter find their subnets.
  public_subnet_tags = var.enable_cluster ? { "kubernetes.io/role/elb" = "1" } : {}
  private_subnet_tags = merge(
    var.enable_cluster ? { "kubernetes.io/role/internal-elb" = "1" } : {},
    local.with_karpenter ? { "karpenter.sh/discovery" = local.name } : {},
  )
}

module "cluster" {
  source = "../modules/cluster"
  count  = var.enable_cluster ? 1 : 0

  name                 = local.name
  kubernetes_version   = var.kubernetes_version
  subnet_ids           = local.private_subnet_ids
  public_access_cidrs  = var.cluster_public_access_cidrs
  admin_principal_arns = var.cluster_admin_arns
  addons               = var.cluster_addons
  node_instance_types  = var.node_instance_types
  node_ami_type        = var.node_ami_type
  node_count           = var.node_count
  node_count_max       = var.node_count_max
  node_disk_gib        = var.node_disk_gib
  log_retention_days   = var.log_retention_days
}

module "service_account_role" {
  source   = "../modules/service_account_role"
  for_each = var.enable_cluster ? var.service_account_roles : {}

  name              = "${local.name}-${each.key}"
  oidc_provider_arn = module.cluster[0].oidc_provider_arn
  oidc_issuer       = module.cluster[0].oidc_issuer
  namespace         = each.value.namespace
  service_account   = each.value.service_account
  policy_arns       = each.value.policy_arns
}

module "karpenter" {
  source = "../modules/karpenter"
  count  = local.with_karpenter ? 1 : 0

  cluster_name              = local.name
  cluster_arn               = module.cluster[0].arn
  cluster_security_group_id = module.cluster[0].security_group_id
  oidc_provider_arn         = module.cluster[0].oidc_provider_arn
  oidc_issuer               = module.cluster[0].oidc_issuer
  node_role_name            = module.cluster[0].node_role_name
  node_role_arn             = module.cluster[0].node_role_arn
  namespace                 = var.karpenter_namespace
  service_account           = var.karpenter_service_account
}

# A given subnet belongs to somebody else's configuration: only the tag is ours.
resource "aws_ec2_tag" "given_subnet" {
  count = local.with_karpenter && !var.enable_network ? length(var.private_subnet_ids) : 0

  resource_id = data.aws_subnet.given[count.index].id
  key         = "karpenter.sh/discovery"
  value       = local.name
}

module "database" {
  source = "../modules/database"
  count  = var.enable_database ? 1 : 0

  name       = local.name
  vpc_id     = local.vpc_id
  subnet_ids = local.private_subnet_ids
  client_security_group_ids = merge(
    var.database_client_security_group_ids,
    var.enable_cluster ? { "nodes of ${local.name}" = module.cluster[0].security_group_id } : {},
  )

  engine_version        = var.database_engine_version
  instance_class        = var.database_instance_class
  storage_gib           = var.database_storage_gib
  storage_max_gib       = var.database_storage_max_gib
  database_name         = var.database_name
  master_username       = var.database_master_username
  multi_az              = var.database_multi_az
  backup_retention_days = var.database_backup_retention_days
  deletion_protection   = var.database_deletion_protection
  skip_final_snapshot   = var.database_skip_final_snapshot
  log_retention_days    = var.log_retention_days
}
