variable "name" {
  description = "Prefix of every name."
  type        = string
}

variable "cidr" {
  description = "Address range of the VPC, /16 to /20."
  type        = string
}

variable "az_count" {
  description = "Number of availability zones."
  type        = number
}

variable "nat" {
  description = "\"single\": one NAT gateway; \"per_az\": one in each zone; \"none\": no way out of the private subnets."
  type        = string
}

variable "public_subnet_tags" {
  description = "Further tags of the public subnets."
  type        = map(string)
  default     = {}
}

variable "private_subnet_tags" {
  description = "Further tags of the private subnets."
  type        = map(string)
  default     = {}
}

variable "flow_logs" {
  description = "Log every connection of the VPC to CloudWatch."
  type        = bool
}

variable "log_retention_days" {
  description = "Days that flow logs are kept."
  type        = number
}
