variable "name" {
  description = "Whom to greet."
  type        = string
  default     = "world"

  validation {
    condition     = length(var.name) > 0 && length(var.name) <= 64
    error_message = "The name must have 1 to 64 characters."
  }
}

variable "lines" {
  description = "How many lines to print while applying."
  type        = number
  default     = 5

  validation {
    condition     = var.lines >= 0 && floor(var.lines) == var.lines
    error_message = "The number of lines must be a whole number from 0."
  }
}

variable "pause_seconds" {
  description = "Pause after each line, in seconds; fractions are fine."
  type        = number
  default     = 0.2

  validation {
    condition     = var.pause_seconds >= 0
    error_message = "The pause must not be negative."
  }
}
