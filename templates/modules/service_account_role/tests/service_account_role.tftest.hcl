mock_provider "aws" {
  source = "../mocks"
}

variables {
  name              = "acme-test-agent"
  oidc_provider_arn = "arn:aws:iam::123456789012:oidc-provider/oidc.example/id/MOCK"
  oidc_issuer       = "oidc.example/id/MOCK"
  namespace         = "tendril"
  service_account   = "agent"
}

run "one_service_account_of_one_cluster" {
  command = plan

  assert {
    condition = {
      for condition in data.aws_iam_policy_document.trust.statement[0].condition :
      condition.variable => [condition.test, one(condition.values)]
      } == {
      "oidc.example/id/MOCK:aud" = ["StringEquals", "sts.amazonaws.com"]
      "oidc.example/id/MOCK:sub" = ["StringEquals", "system:serviceaccount:tendril:agent"]
    }
    error_message = "Both sub and aud, compared without wildcards."
  }

  assert {
    condition     = one(data.aws_iam_policy_document.trust.statement[0].principals).identifiers == toset([var.oidc_provider_arn])
    error_message = "Only this cluster's provider."
  }

  assert {
    condition     = data.aws_iam_policy_document.trust.statement[0].actions == toset(["sts:AssumeRoleWithWebIdentity"])
    error_message = "Only by a service account's token."
  }

  assert {
    condition     = length(aws_iam_role_policy_attachment.this) == 0 && aws_iam_role.this.permissions_boundary == null
    error_message = "It may do nothing by default."
  }
}

run "policies_and_a_boundary" {
  command = plan

  variables {
    policy_arns              = ["arn:aws:iam::aws:policy/ReadOnlyAccess"]
    permissions_boundary_arn = "arn:aws:iam::123456789012:policy/most"
  }

  assert {
    condition     = aws_iam_role_policy_attachment.this[0].policy_arn == "arn:aws:iam::aws:policy/ReadOnlyAccess"
    error_message = "What was named is attached."
  }

  assert {
    condition     = aws_iam_role.this.permissions_boundary == "arn:aws:iam::123456789012:policy/most"
    error_message = "And bounded."
  }
}
