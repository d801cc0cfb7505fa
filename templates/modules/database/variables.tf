variable "name" {
  description = "Identifier of the instance and prefix of what belongs to it."
  type        = string
}

variable "vpc_id" {
  description = "VPC of the database."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets in at least two zones."
  type        = list(string)
}

variable "client_security_group_ids" {
  description = "Security groups that may connect, by a name of your choice."
  type        = map(string)
}

variable "engine_version" {
  description = "Version of PostgreSQL, such as 17 (newest minor) or 17.5."
  type        = string
}

variable "instance_class" {
  description = "Instance class, such as db.t4g.medium."
  type        = string
}

variable "storage_gib" {
  description = "Storage at creation, in GiB."
  type        = number
}

variable "storage_max_gib" {
  description = "Most storage RDS may grow to by itself, in GiB."
  type        = number
}

variable "database_name" {
  description = "Name of the first database."
  type        = string
}

variable "master_username" {
  description = "Name of the master user; its password is made and kept by Secrets Manager."
  type        = string
}

variable "multi_az" {
  description = "Keep a standby in a second zone."
  type        = bool
}

variable "backup_retention_days" {
  description = "Days that automated backups are kept."
  type        = number
}

variable "deletion_protection" {
  description = "Refuse to delete the database."
  type        = bool
}

variable "skip_final_snapshot" {
  description = "Delete the database without a last snapshot."
  type        = bool
}

variable "log_retention_days" {
  description = "Days that the database's logs are kept."
  type        = number
}
