output "role_arn" {
  description = "Role for the controller's service account."
  value       = module.role.arn

  depends_on = [aws_iam_role_policy.controller]
}

output "queue_name" {
  description = "The chart's settings.interruptionQueue."
  value       = aws_sqs_queue.interruption.name
}

output "instance_profile" {
  description = "EC2NodeClass.spec.instanceProfile."
  value       = aws_iam_instance_profile.node.name
}
