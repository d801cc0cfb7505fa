mock_provider "aws" {
  source = "../mocks"
}

variables {
  cluster_name              = "acme-test"
  cluster_arn               = "arn:aws:eks:eu-central-1:123456789012:cluster/acme-test"
  cluster_security_group_id = "sg-01"
  oidc_provider_arn         = "arn:aws:iam::123456789012:oidc-provider/oidc.example/id/MOCK"
  oidc_issuer               = "oidc.example/id/MOCK"
  node_role_name            = "acme-test-node"
  node_role_arn             = "arn:aws:iam::123456789012:role/acme-test-node"
  namespace                 = "kube-system"
  service_account           = "karpenter"
}

run "no_action_is_a_wildcard_and_few_resources_are" {
  assert {
    condition = alltrue(flatten([
      for statement in data.aws_iam_policy_document.controller.statement :
      [for action in statement.actions : !strcontains(action, "*")]
    ]))
    error_message = "Every action is named."
  }

  assert {
    condition = toset([
      for statement in data.aws_iam_policy_document.controller.statement :
      statement.sid if contains(statement.resources, "*")
    ]) == toset(["Look", "Prices"])
    error_message = "Only what has no narrower resource is open, and only for reading."
  }
}

run "it_changes_only_what_bears_the_clusters_tag" {
  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.controller.statement :
      anytrue([for condition in statement.condition : endswith(condition.variable, "/kubernetes.io/cluster/acme-test") && condition.values == tolist(["owned"])])
      if contains(["LaunchByOwnTemplate", "LaunchTagged", "TagWhatIsLaunched", "RenameOwnInstances", "EndOwn"], statement.sid)
    ])
    error_message = "Launch, tag and end: with the tag."
  }

  assert {
    condition = one([
      for statement in data.aws_iam_policy_document.controller.statement : statement.resources if statement.sid == "GiveNodesTheirRole"
    ]) == toset([var.node_role_arn])
    error_message = "It passes on one role."
  }
}

run "interruptions_arrive" {
  assert {
    condition     = length(aws_cloudwatch_event_rule.interruption) == 5 && keys(aws_cloudwatch_event_target.interruption) == keys(aws_cloudwatch_event_rule.interruption)
    error_message = "Five kinds of news, each to the queue."
  }

  assert {
    condition     = alltrue([for target in aws_cloudwatch_event_target.interruption : target.arn == aws_sqs_queue.interruption.arn])
    error_message = "To this queue."
  }

  assert {
    condition     = jsondecode(aws_cloudwatch_event_rule.interruption["spot"].event_pattern).detail-type == ["EC2 Spot Instance Interruption Warning"]
    error_message = "Spot interruptions among them."
  }
}

run "the_queue_is_encrypted_and_takes_tls_only" {
  assert {
    condition     = aws_sqs_queue.interruption.sqs_managed_sse_enabled
    error_message = "Encrypted at rest."
  }

  assert {
    condition = anytrue([
      for statement in data.aws_iam_policy_document.queue.statement :
      statement.effect == "Deny" && one(statement.condition).variable == "aws:SecureTransport"
    ])
    error_message = "And on the way."
  }

  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.queue.statement :
      one(statement.condition).variable == "aws:SourceArn" if statement.effect != "Deny"
    ])
    error_message = "Only these rules may send."
  }
}

run "discovery" {
  command = plan

  assert {
    condition     = aws_ec2_tag.discovery.resource_id == "sg-01" && aws_ec2_tag.discovery.key == "karpenter.sh/discovery" && aws_ec2_tag.discovery.value == "acme-test"
    error_message = "The nodes' security group can be found."
  }

  assert {
    condition     = aws_iam_instance_profile.node.role == "acme-test-node"
    error_message = "Nodes get the nodes' role."
  }
}
