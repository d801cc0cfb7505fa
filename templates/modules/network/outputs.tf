output "vpc_id" {
  description = "Id of the VPC."
  value       = aws_vpc.this.id
}

# Through the associations and routes, so that whoever uses a private subnet waits for its way out
# and, on destroy, is gone before it.
output "private_subnet_ids" {
  description = "One private subnet for each zone."
  value       = aws_subnet.private[*].id

  depends_on = [aws_route.nat, aws_route_table_association.private]
}

output "public_subnet_ids" {
  description = "One public subnet for each zone."
  value       = aws_subnet.public[*].id

  depends_on = [aws_route.out, aws_route_table_association.public]
}

output "nat_public_ips" {
  description = "Addresses that the private subnets are seen with."
  value       = aws_eip.nat[*].public_ip
}
