# The first cluster of an account: where the agent will live. Everything after it is done by the
# agent, with the role made here.

provider "aws" {
  region = var.region

  default_tags {
    tags = merge(var.tags, {
      Project     = var.project_name
      Environment = var.environment
      ManagedBy   = "grape-bootstrap"
    })
  }
}

locals {
  name = "${var.project_name}-${var.environment}"

  make_network       = var.vpc_id == null
  private_subnet_ids = local.make_network ? module.network[0].private_subnet_ids : data.aws_subnet.given[*].id
}

# What is given is looked up, so that a mistake is found before anything is made.
data "aws_subnet" "given" {
  count = local.make_network ? 0 : length(var.private_subnet_ids)

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
  count  = local.make_network ? 1 : 0

  name               = local.name
  cidr               = var.vpc_cidr
  az_count           = var.az_count
  nat                = "single"
  flow_logs          = var.flow_logs
  log_retention_days = var.log_retention_days
}

module "cluster" {
  source = "../modules/cluster"

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

module "agent_role" {
  source = "../modules/service_account_role"

  name                     = "${local.name}-agent"
  oidc_provider_arn        = module.cluster.oidc_provider_arn
  oidc_issuer              = module.cluster.oidc_issuer
  namespace                = var.agent_namespace
  service_account          = var.agent_service_account
  policy_arns              = var.agent_policy_arns
  permissions_boundary_arn = var.agent_permissions_boundary_arn
}
