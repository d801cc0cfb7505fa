mock_provider "aws" {
  source = "../modules/mocks"
}

variables {
  project_name = "acme"
  region       = "eu-central-1"
}

run "everything" {
  assert {
    condition     = length(module.network) == 1 && length(module.cluster) == 1 && length(module.karpenter) == 1 && length(module.database) == 1
    error_message = "Every part by default."
  }

  assert {
    condition     = length(output.private_subnet_ids) == 3 && length(output.nat_public_ips) == 1
    error_message = "Three zones behind one NAT gateway."
  }

  assert {
    condition     = output.karpenter.discovery_tag == "acme-dev" && output.cluster_name == "acme-dev"
    error_message = "Project and environment make the name."
  }

  assert {
    condition     = nonsensitive(output.database_master_secret_arn) == "arn:aws:secretsmanager:eu-central-1:123456789012:secret:mock"
    error_message = "The secret's name is an output."
  }
}

run "the_longest_names_fit" {
  command = plan

  variables {
    project_name = "a-project-of-24-letters0"
    environment  = "sixteen-letters0"
    service_account_roles = {
      a-role-with-a-long-name = { namespace = "ops", service_account = "backup", policy_arns = [] }
    }
  }

  assert {
    condition     = output.karpenter.discovery_tag == "a-project-of-24-letters0-sixteen-letters0"
    error_message = "AWS takes every name that is made of them."
  }
}

run "only_a_network" {
  variables {
    enable_cluster  = false
    enable_database = false
    nat             = "per_az"
    az_count        = 2
  }

  assert {
    condition     = length(module.network) == 1 && length(module.cluster) == 0 && length(module.karpenter) == 0 && length(module.database) == 0
    error_message = "Without the cluster there is no Karpenter either."
  }

  assert {
    condition     = length(output.nat_public_ips) == 2 && output.cluster_name == null && output.karpenter == null && output.database_address == null
    error_message = "Outputs of what is not there are null."
  }
}

run "a_cluster_without_karpenter_or_database" {
  variables {
    enable_karpenter = false
    enable_database  = false
    service_account_roles = {
      backup = { namespace = "ops", service_account = "backup", policy_arns = [] }
    }
  }

  assert {
    condition     = length(module.cluster) == 1 && length(module.karpenter) == 0 && length(module.database) == 0
    error_message = "The cluster alone."
  }

  assert {
    condition     = keys(output.service_account_role_arns) == ["backup"]
    error_message = "With the asked-for role."
  }
}

run "a_database_in_a_given_network" {
  variables {
    enable_network                     = false
    enable_cluster                     = false
    vpc_id                             = "vpc-0123"
    private_subnet_ids                 = ["subnet-01", "subnet-02"]
    database_client_security_group_ids = { apps = "sg-01" }
  }

  assert {
    condition     = length(module.network) == 0 && length(module.database) == 1 && output.vpc_id == "vpc-0123"
    error_message = "No VPC is made."
  }

  assert {
    condition     = length(aws_ec2_tag.given_subnet) == 0
    error_message = "Without Karpenter, given subnets are left alone."
  }
}

run "karpenter_finds_given_subnets" {
  variables {
    enable_network     = false
    enable_database    = false
    vpc_id             = "vpc-0123"
    private_subnet_ids = ["subnet-01", "subnet-02"]
  }

  assert {
    condition     = length(aws_ec2_tag.given_subnet) == 2 && aws_ec2_tag.given_subnet[0].key == "karpenter.sh/discovery"
    error_message = "Only the tag is added to them."
  }
}

run "a_subnet_of_another_vpc" {
  command = plan

  variables {
    enable_network     = false
    vpc_id             = "vpc-0999"
    private_subnet_ids = ["subnet-01", "subnet-02"]
  }

  expect_failures = [data.aws_subnet.given]
}

run "a_network_both_given_and_made" {
  command = plan

  variables {
    private_subnet_ids = ["subnet-01", "subnet-02"]
  }

  expect_failures = [output.private_subnet_ids]
}

run "what_is_refused" {
  command = plan

  variables {
    project_name                   = "Acme Inc"
    vpc_cidr                       = "10.0.0.0/24"
    az_count                       = 1
    nat                            = "many"
    cluster_public_access_cidrs    = ["0.0.0.0/0"]
    database_backup_retention_days = 0
    database_master_username       = "postgres"
    log_retention_days             = 31
    service_account_roles          = { all = { namespace = "*", service_account = "*", policy_arns = [] } }
  }

  expect_failures = [
    var.project_name,
    var.vpc_cidr,
    var.az_count,
    var.nat,
    var.cluster_public_access_cidrs,
    var.database_backup_retention_days,
    var.database_master_username,
    var.log_retention_days,
    var.service_account_roles,
  ]
}
