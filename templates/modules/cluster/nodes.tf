data "aws_iam_policy_document" "node_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

# Also the role of the nodes that Karpenter starts: EKS lets it in with the managed node group.
resource "aws_iam_role" "node" {
  name_prefix        = "${substr(var.name, 0, 31)}-node-"
  assume_role_policy = data.aws_iam_policy_document.node_trust.json
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each = toset([
    "AmazonEC2ContainerRegistryReadOnly",
    "AmazonEKSWorkerNodePolicy",
    "AmazonEKS_CNI_Policy", # the CNI runs on the host's network, so it can be the node itself
  ])

  role       = aws_iam_role.node.name
  policy_arn = "${local.managed_policies}/${each.value}"
}

# No image and no user data: EKS adds both. No security group either: EKS adds the cluster's own.
resource "aws_launch_template" "node" {
  name_prefix            = "${var.name}-node-"
  update_default_version = true

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required" # IMDSv2
    http_put_response_hop_limit = 1          # out of reach of pods: they have roles of their own
    instance_metadata_tags      = "disabled"
  }

  block_device_mappings {
    device_name = "/dev/xvda" # root of AL2023

    ebs {
      volume_type           = "gp3"
      volume_size           = var.node_disk_gib
      encrypted             = true # by the account's EBS key: another needs a grant to Auto Scaling
      delete_on_termination = true
    }
  }

  monitoring {
    enabled = true
  }

  dynamic "tag_specifications" {
    for_each = ["instance", "volume", "network-interface"]

    content {
      resource_type = tag_specifications.value
      tags          = merge(data.aws_default_tags.this.tags, { Name = "${var.name}-node" })
    }
  }
}

# What Auto Scaling starts does not get the provider's default tags by itself.
data "aws_default_tags" "this" {}

resource "aws_eks_node_group" "this" {
  cluster_name           = aws_eks_cluster.this.name
  node_group_name_prefix = "${substr(var.name, 0, 30)}-"
  node_role_arn          = aws_iam_role.node.arn
  subnet_ids             = var.subnet_ids
  instance_types         = var.node_instance_types
  ami_type               = var.node_ami_type
  capacity_type          = "ON_DEMAND"

  scaling_config {
    desired_size = var.node_count
    min_size     = var.node_count
    max_size     = var.node_count_max
  }

  update_config {
    max_unavailable_percentage = 33
  }

  launch_template {
    id      = aws_launch_template.node.id
    version = aws_launch_template.node.latest_version
  }

  lifecycle {
    create_before_destroy = true
    ignore_changes        = [scaling_config[0].desired_size] # an autoscaler's business

    precondition {
      condition     = var.node_count_max >= var.node_count
      error_message = "node_count_max (${var.node_count_max}) is below node_count (${var.node_count})."
    }
  }

  depends_on = [aws_iam_role_policy_attachment.node]
}
