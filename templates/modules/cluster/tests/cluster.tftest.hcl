mock_provider "aws" {
  source = "../mocks"
}

variables {
  name                 = "acme-test"
  kubernetes_version   = null
  subnet_ids           = ["subnet-01", "subnet-02"]
  public_access_cidrs  = []
  admin_principal_arns = []
  addons               = {}
  node_instance_types  = ["m6i.large"]
  node_ami_type        = "AL2023_x86_64_STANDARD"
  node_count           = 2
  node_count_max       = 4
  node_disk_gib        = 50
  log_retention_days   = 90
}

run "the_api_server_is_private" {
  command = plan

  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_private_access && !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    error_message = "Reached from inside the VPC alone."
  }
}

run "the_api_server_is_public_for_named_ranges_only" {
  command = plan

  variables {
    public_access_cidrs = ["203.0.113.7/32"]
  }

  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].endpoint_private_access && aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    error_message = "The private endpoint stays."
  }

  assert {
    condition     = aws_eks_cluster.this.vpc_config[0].public_access_cidrs == toset(["203.0.113.7/32"])
    error_message = "Exactly the named ranges."
  }
}

run "secrets_are_encrypted_and_everything_is_logged" {
  command = plan

  assert {
    condition     = aws_eks_cluster.this.encryption_config[0].resources == toset(["secrets"]) && aws_kms_key.secrets.enable_key_rotation
    error_message = "Secrets are encrypted by a key that rotates."
  }

  assert {
    condition     = length(aws_eks_cluster.this.enabled_cluster_log_types) == 5 && aws_cloudwatch_log_group.cluster.retention_in_days == 90
    error_message = "All five logs, with an end."
  }

  assert {
    condition     = aws_eks_cluster.this.access_config[0].authentication_mode == "API"
    error_message = "IAM alone decides who gets in."
  }

  assert {
    condition     = aws_eks_cluster.this.upgrade_policy[0].support_type == "STANDARD"
    error_message = "No extended support at six times the price."
  }
}

run "nodes_ask_for_imdsv2_and_encrypt_their_disks" {
  command = plan

  assert {
    condition     = aws_launch_template.node.metadata_options[0].http_tokens == "required"
    error_message = "IMDSv2 is required."
  }

  assert {
    condition     = aws_launch_template.node.metadata_options[0].http_put_response_hop_limit == 1
    error_message = "Pods cannot take the node's credentials."
  }

  assert {
    condition     = aws_launch_template.node.block_device_mappings[0].ebs[0].encrypted == "true"
    error_message = "Disks are encrypted."
  }

  assert {
    condition     = toset(aws_launch_template.node.tag_specifications[*].resource_type) == toset(["instance", "volume", "network-interface"])
    error_message = "What Auto Scaling starts bears the tags."
  }
}

run "service_accounts_become_principals" {
  assert {
    condition     = aws_iam_openid_connect_provider.this.client_id_list == toset(["sts.amazonaws.com"])
    error_message = "Tokens for STS alone."
  }

  assert {
    condition     = aws_iam_openid_connect_provider.this.url == "https://oidc.example/id/MOCK" && output.oidc_issuer == "oidc.example/id/MOCK"
    error_message = "The cluster's own issuer; conditions name it without a scheme."
  }

  assert {
    condition     = aws_eks_node_group.this.launch_template[0].id == aws_launch_template.node.id
    error_message = "The node group starts from our template."
  }
}

run "nothing_optional_by_default" {
  command = plan

  assert {
    condition     = length(aws_eks_addon.this) + length(aws_eks_access_entry.admin) + length(aws_eks_access_policy_association.admin) == 0
    error_message = "Neither add-ons nor further administrators."
  }
}

run "administrators_and_addons" {
  command = plan

  variables {
    admin_principal_arns = ["arn:aws:iam::123456789012:role/ops"]
    addons               = { coredns = null, vpc-cni = "v1.19.5-eksbuild.1" }
  }

  assert {
    condition     = aws_eks_access_entry.admin["arn:aws:iam::123456789012:role/ops"].principal_arn == "arn:aws:iam::123456789012:role/ops"
    error_message = "An entry for each."
  }

  assert {
    condition     = endswith(aws_eks_access_policy_association.admin["arn:aws:iam::123456789012:role/ops"].policy_arn, ":cluster-access-policy/AmazonEKSClusterAdminPolicy")
    error_message = "With the administrator's policy."
  }

  assert {
    condition     = keys(aws_eks_addon.this) == ["coredns", "vpc-cni"] && aws_eks_addon.this["vpc-cni"].addon_version == "v1.19.5-eksbuild.1"
    error_message = "The add-ons, with the named version."
  }
}

run "fewer_nodes_at_most_than_at_least" {
  command = plan

  variables {
    node_count = 5
  }

  expect_failures = [aws_eks_node_group.this]
}

run "one_subnet_is_too_few" {
  command = plan

  variables {
    subnet_ids = ["subnet-01"]
  }

  expect_failures = [aws_eks_cluster.this]
}
