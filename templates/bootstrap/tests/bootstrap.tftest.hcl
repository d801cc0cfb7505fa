mock_provider "aws" {
  source = "../modules/mocks"
}

variables {
  project_name = "acme"
  region       = "eu-central-1"
}

run "a_vpc_is_made_where_none_is_given" {
  assert {
    condition     = length(module.network) == 1 && length(output.private_subnet_ids) == 2
    error_message = "Two zones."
  }

  assert {
    condition     = output.cluster_name == "acme-bootstrap" && !output.cluster_endpoint_is_public
    error_message = "A private cluster by default."
  }

  assert {
    condition     = output.oidc_issuer == "oidc.example/id/MOCK" && output.agent_namespace == "tendril" && output.agent_service_account == "tendril"
    error_message = "What the agent's installation needs to know."
  }
}

run "a_given_vpc_is_used" {
  variables {
    vpc_id             = "vpc-0123"
    private_subnet_ids = ["subnet-01", "subnet-02"]
  }

  assert {
    condition     = length(module.network) == 0 && output.vpc_id == "vpc-0123" && length(output.private_subnet_ids) == 2
    error_message = "No VPC is made."
  }
}

run "a_subnet_of_another_vpc" {
  command = plan

  variables {
    vpc_id             = "vpc-0999"
    private_subnet_ids = ["subnet-01", "subnet-02"]
  }

  expect_failures = [data.aws_subnet.given]
}

run "subnets_without_their_vpc" {
  command = plan

  variables {
    private_subnet_ids = ["subnet-01", "subnet-02"]
  }

  expect_failures = [output.private_subnet_ids]
}

run "the_operator_can_reach_the_api" {
  command = plan

  variables {
    cluster_public_access_cidrs = ["203.0.113.7/32"]
  }

  assert {
    condition     = output.cluster_endpoint_is_public
    error_message = "From the named range."
  }
}

run "what_is_refused" {
  command = plan

  variables {
    project_name                   = "-"
    region                         = "Frankfurt"
    tags                           = { "aws:x" = "y" }
    vpc_id                         = "my-vpc"
    private_subnet_ids             = ["a"]
    cluster_public_access_cidrs    = ["::/0"]
    cluster_admin_arns             = ["me"]
    node_count                     = 0
    agent_namespace                = "*"
    agent_service_account          = "*"
    agent_policy_arns              = ["AdministratorAccess"]
    agent_permissions_boundary_arn = "none"
  }

  expect_failures = [
    var.project_name,
    var.region,
    var.tags,
    var.vpc_id,
    var.private_subnet_ids,
    var.cluster_public_access_cidrs,
    var.cluster_admin_arns,
    var.node_count,
    var.agent_namespace,
    var.agent_service_account,
    var.agent_policy_arns,
    var.agent_permissions_boundary_arn,
  ]
}
