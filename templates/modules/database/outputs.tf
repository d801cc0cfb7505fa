output "address" {
  description = "Host name of the database, reachable inside the VPC alone."
  value       = aws_db_instance.this.address
}

output "port" {
  description = "Port of the database."
  value       = aws_db_instance.this.port
}

output "master_secret_arn" {
  description = "Secret of Secrets Manager that holds the master user's name and password."
  value       = aws_db_instance.this.master_user_secret[0].secret_arn
}

output "resource_id" {
  description = "Id that IAM policies for rds-db:connect name."
  value       = aws_db_instance.this.resource_id
}

output "security_group_id" {
  description = "The database's security group."
  value       = aws_security_group.this.id
}
