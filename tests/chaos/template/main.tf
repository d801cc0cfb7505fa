# Prints a known text and leaves a witness of it outside of the workspace (printer.sh).

terraform {
  backend "local" {} # its path comes with the provision: one state per stack, whoever applies it
}

variable "token" {
  type = string
}

variable "stack" {
  type = string
}

variable "witness_dir" {
  type = string
}

variable "lines" {
  type = number
}

variable "burst" {
  type = number
}

variable "pause_s" {
  type = number
}

resource "terraform_data" "printer" {
  input            = var.token
  triggers_replace = [var.token]

  provisioner "local-exec" {
    quiet       = true
    interpreter = ["/bin/sh"]
    command     = "${path.module}/printer.sh"

    environment = {
      TOKEN       = var.token
      STACK       = var.stack
      WITNESS_DIR = var.witness_dir
      LINES_EACH  = var.lines
      BURST       = var.burst
      PAUSE_S     = var.pause_s
    }
  }
}

output "token" {
  value = terraform_data.printer.output
}
