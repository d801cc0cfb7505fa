# What Karpenter needs of AWS: a role for its controller, an instance profile for its nodes, a queue
# of interruptions, and the tag by which it finds the nodes' security group. Its chart is installed
# by whoever installs charts.

data "aws_caller_identity" "this" {}
data "aws_partition" "this" {}
data "aws_region" "this" {}

locals {
  ec2 = "arn:${data.aws_partition.this.partition}:ec2:${data.aws_region.this.name}"

  # What EventBridge tells Karpenter of, so that it moves pods away in time.
  interruptions = {
    health         = { source = "aws.health", type = "AWS Health Event" }
    rebalance      = { source = "aws.ec2", type = "EC2 Instance Rebalance Recommendation" }
    spot           = { source = "aws.ec2", type = "EC2 Spot Instance Interruption Warning" }
    state_change   = { source = "aws.ec2", type = "EC2 Instance State-change Notification" }
    capacity_block = { source = "aws.ec2", type = "EC2 Capacity Block Reservation Interruption Warning" }
  }
}

module "role" {
  source = "../service_account_role"

  name              = "${var.cluster_name}-karpenter"
  oidc_provider_arn = var.oidc_provider_arn
  oidc_issuer       = var.oidc_issuer
  namespace         = var.namespace
  service_account   = var.service_account
}

resource "aws_iam_role_policy" "controller" {
  name   = "karpenter-controller"
  role   = module.role.name
  policy = data.aws_iam_policy_document.controller.json
}

# Named in EC2NodeClass.spec.instanceProfile, so the controller needs no right to make profiles.
resource "aws_iam_instance_profile" "node" {
  name_prefix = "${var.cluster_name}-karpenter-"
  role        = var.node_role_name
}

resource "aws_ec2_tag" "discovery" {
  resource_id = var.cluster_security_group_id # made by EKS, so the tag is all we add
  key         = "karpenter.sh/discovery"
  value       = var.cluster_name
}

resource "aws_sqs_queue" "interruption" {
  name                      = "${var.cluster_name}-karpenter"
  message_retention_seconds = 300 # older news of an interruption is none
  sqs_managed_sse_enabled   = true
}

data "aws_iam_policy_document" "queue" {
  statement {
    sid       = "EventBridge"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.interruption.arn]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition { # not the rules of anybody else
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [for rule in aws_cloudwatch_event_rule.interruption : rule.arn]
    }
  }

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["sqs:*"] # a refusal may be wide
    resources = [aws_sqs_queue.interruption.arn]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_sqs_queue_policy" "interruption" {
  queue_url = aws_sqs_queue.interruption.url
  policy    = data.aws_iam_policy_document.queue.json
}

resource "aws_cloudwatch_event_rule" "interruption" {
  for_each = local.interruptions

  name_prefix = "${substr(var.cluster_name, 0, 20)}-${replace(each.key, "_", "-")}-"
  description = "${each.value.type}, for Karpenter of ${var.cluster_name}"
  event_pattern = jsonencode({
    source      = [each.value.source]
    detail-type = [each.value.type]
  })
}

resource "aws_cloudwatch_event_target" "interruption" {
  for_each = local.interruptions

  rule      = aws_cloudwatch_event_rule.interruption[each.key].name
  target_id = "karpenter"
  arn       = aws_sqs_queue.interruption.arn
}
