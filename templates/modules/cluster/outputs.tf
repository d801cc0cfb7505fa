output "name" {
  description = "Name of the cluster, once it has nodes."
  value       = aws_eks_cluster.this.name

  depends_on = [aws_eks_node_group.this]
}

output "arn" {
  description = "ARN of the cluster."
  value       = aws_eks_cluster.this.arn
}

output "endpoint" {
  description = "Address of the API server."
  value       = aws_eks_cluster.this.endpoint
}

output "certificate_authority" {
  description = "The API server's certificate authority, base64 of PEM."
  value       = aws_eks_cluster.this.certificate_authority[0].data
}

output "version" {
  description = "Kubernetes version that runs."
  value       = aws_eks_cluster.this.version
}

output "security_group_id" {
  description = "The security group that EKS gives the control plane and every node."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}

output "oidc_issuer" {
  description = "Issuer of service account tokens, without its scheme: as IAM conditions name it."
  value       = trimprefix(local.oidc_issuer, "https://")
}

output "oidc_provider_arn" {
  description = "ARN of the IAM identity provider of the cluster."
  value       = aws_iam_openid_connect_provider.this.arn
}

output "node_role_arn" {
  description = "ARN of the nodes' role."
  value       = aws_iam_role.node.arn
}

output "node_role_name" {
  description = "Name of the nodes' role."
  value       = aws_iam_role.node.name
}
