mock_provider "aws" {
  source = "../mocks"
}

variables {
  name                      = "acme-test"
  vpc_id                    = "vpc-0123"
  subnet_ids                = ["subnet-01", "subnet-02"]
  client_security_group_ids = { nodes = "sg-01" }
  engine_version            = "17"
  instance_class            = "db.t4g.medium"
  storage_gib               = 20
  storage_max_gib           = 100
  database_name             = "app"
  master_username           = "dbadmin"
  multi_az                  = false
  backup_retention_days     = 14
  deletion_protection       = true
  skip_final_snapshot       = false
  log_retention_days        = 90
}

run "it_is_private_and_encrypted" {
  assert {
    condition     = !aws_db_instance.this.publicly_accessible
    error_message = "No public address."
  }

  assert {
    condition     = aws_db_instance.this.storage_encrypted && aws_db_instance.this.kms_key_id == aws_kms_key.this.arn && aws_kms_key.this.enable_key_rotation
    error_message = "Encrypted by a key of its own that rotates."
  }

  assert {
    condition     = aws_db_instance.this.master_user_secret_kms_key_id == aws_kms_key.this.arn
    error_message = "The password too."
  }

  assert {
    condition     = aws_db_parameter_group.this.family == "postgres17" && { for parameter in aws_db_parameter_group.this.parameter : parameter.name => parameter.value } == { "rds.force_ssl" = "1" }
    error_message = "TLS only."
  }
}

run "terraform_never_sees_the_password" {
  command = plan

  assert {
    condition     = aws_db_instance.this.manage_master_user_password && aws_db_instance.this.password == null
    error_message = "Secrets Manager makes it and keeps it."
  }

  assert {
    condition     = aws_db_instance.this.iam_database_authentication_enabled
    error_message = "Applications can do without a password."
  }
}

run "only_named_groups_connect" {
  command = plan

  assert {
    condition     = keys(aws_vpc_security_group_ingress_rule.client) == ["nodes"]
    error_message = "One rule for each client."
  }

  assert {
    condition = alltrue([
      for rule in aws_vpc_security_group_ingress_rule.client :
      rule.referenced_security_group_id == "sg-01" && rule.cidr_ipv4 == null && rule.cidr_ipv6 == null && rule.from_port == 5432 && rule.to_port == 5432
    ])
    error_message = "By security group, never by address, on the one port."
  }
}

run "it_is_kept" {
  command = plan

  assert {
    condition     = aws_db_instance.this.deletion_protection && !aws_db_instance.this.skip_final_snapshot && aws_db_instance.this.final_snapshot_identifier == "acme-test-final"
    error_message = "Not deleted by mistake, nor without a snapshot."
  }

  assert {
    condition     = aws_db_instance.this.backup_retention_period == 14 && !aws_db_instance.this.delete_automated_backups && aws_db_instance.this.copy_tags_to_snapshot
    error_message = "Backed up for two weeks, and backups outlive the database."
  }
}

run "it_can_be_given_up" {
  command = plan

  variables {
    deletion_protection = false
    skip_final_snapshot = true
  }

  assert {
    condition     = !aws_db_instance.this.deletion_protection && aws_db_instance.this.skip_final_snapshot && aws_db_instance.this.final_snapshot_identifier == null
    error_message = "Where it was asked for."
  }
}

run "one_subnet_is_too_few" {
  command = plan

  variables {
    subnet_ids = ["subnet-01"]
  }

  expect_failures = [aws_db_subnet_group.this]
}

run "storage_that_cannot_grow" {
  command = plan

  variables {
    storage_max_gib = 20
  }

  expect_failures = [aws_db_instance.this]
}

run "a_standby" {
  command = plan

  variables {
    multi_az = true
  }

  assert {
    condition     = aws_db_instance.this.multi_az
    error_message = "In a second zone."
  }
}
