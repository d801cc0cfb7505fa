output "arn" {
  description = "ARN for the annotation eks.amazonaws.com/role-arn of the service account."
  value       = aws_iam_role.this.arn

  depends_on = [aws_iam_role_policy_attachment.this]
}

output "name" {
  description = "Name of the role."
  value       = aws_iam_role.this.name
}
