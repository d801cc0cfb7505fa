mock_provider "aws" {
  source = "../mocks"
}

variables {
  name               = "acme-test"
  cidr               = "10.0.0.0/16"
  az_count           = 3
  nat                = "single"
  flow_logs          = true
  log_retention_days = 30
}

run "subnets_do_not_overlap_and_give_no_public_addresses" {
  command = plan

  assert {
    condition     = aws_subnet.private[*].cidr_block == ["10.0.0.0/20", "10.0.16.0/20", "10.0.32.0/20"]
    error_message = "Three private ranges of a /20 each."
  }

  assert {
    condition     = aws_subnet.public[*].cidr_block == ["10.0.240.0/24", "10.0.241.0/24", "10.0.242.0/24"]
    error_message = "Public ranges lie behind the private ones."
  }

  assert {
    condition     = length(distinct(aws_subnet.private[*].availability_zone)) == 3
    error_message = "Each private subnet has a zone of its own."
  }

  assert {
    condition     = !anytrue(concat(aws_subnet.public[*].map_public_ip_on_launch, aws_subnet.private[*].map_public_ip_on_launch))
    error_message = "Nothing gets a public address by being started."
  }

  assert {
    condition     = aws_vpc_endpoint.s3.service_name == "com.amazonaws.eu-central-1.s3"
    error_message = "S3 is reached without NAT."
  }
}

run "the_smallest_range_still_divides" {
  command = plan

  variables {
    cidr = "10.9.16.0/20"
  }

  assert {
    condition     = aws_subnet.private[2].cidr_block == "10.9.18.0/24" && aws_subnet.public[2].cidr_block == "10.9.31.32/28"
    error_message = "A /20 gives /24 and /28, the least that AWS takes."
  }
}

run "one_nat_gateway_serves_every_zone" {
  assert {
    condition     = length(aws_nat_gateway.this) == 1 && length(aws_eip.nat) == 1
    error_message = "One gateway."
  }

  assert {
    condition     = length(aws_route.nat) == 3 && alltrue([for route in aws_route.nat : route.nat_gateway_id == aws_nat_gateway.this[0].id])
    error_message = "Every private subnet goes out through it."
  }
}

run "one_nat_gateway_for_each_zone" {
  variables {
    nat = "per_az"
  }

  assert {
    condition     = length(aws_nat_gateway.this) == 3
    error_message = "Three gateways."
  }

  assert {
    condition     = alltrue([for index in range(3) : aws_route.nat[index].nat_gateway_id == aws_nat_gateway.this[index].id])
    error_message = "Each private subnet goes out through its own zone's."
  }
}

run "no_nat_gateway" {
  command = plan

  variables {
    nat = "none"
  }

  assert {
    condition     = length(aws_nat_gateway.this) + length(aws_eip.nat) + length(aws_route.nat) == 0
    error_message = "Neither gateways, nor addresses, nor routes."
  }
}

run "flow_logs_see_everything_and_end" {
  command = plan

  assert {
    condition     = aws_flow_log.this[0].traffic_type == "ALL" && aws_cloudwatch_log_group.flow[0].retention_in_days == 30
    error_message = "All traffic, kept for as long as was said."
  }

  assert {
    condition     = one(data.aws_iam_policy_document.flow_trust.statement[0].condition).variable == "aws:SourceAccount"
    error_message = "Only this account's flow logs may write."
  }
}

run "no_flow_logs" {
  command = plan

  variables {
    flow_logs = false
  }

  assert {
    condition     = length(aws_flow_log.this) + length(aws_cloudwatch_log_group.flow) + length(aws_iam_role.flow) == 0
    error_message = "Nothing of them is left."
  }
}
